"""Two demonstrations on drawn birds: searching with the shipped bundle, and the whole road with training."""
