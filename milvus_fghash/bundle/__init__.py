"""The bundle: an ONNX encoder, its manifest and, for some methods, learned codes."""
