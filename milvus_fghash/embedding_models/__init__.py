"""Embedding models in ONNX files: reading them with their preprocessing, running them, and joining them with a head."""
