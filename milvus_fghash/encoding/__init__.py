"""Photos to codes: decoding in worker processes, and the encoder in ONNX Runtime."""
