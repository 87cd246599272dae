"""An ONNX embedding model and a method of hashing -> a bundle."""
