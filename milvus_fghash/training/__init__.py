"""How codes are learned: trunks, batches, the loop, checkpoints. Needs the extra `train`."""
