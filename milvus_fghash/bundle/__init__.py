"""The bundle: an ONNX encoder, its manifest, and the learned codes of some methods."""
