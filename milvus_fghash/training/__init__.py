"""How codes are learned: backbones, batches, the loop, checkpoints. Needs the extra `train`."""
