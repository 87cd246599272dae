"""Training: backbones, batches, the loop, checkpoints. Needs the extra `train`."""
