"""Turns encoders (ONNX) and decoders (PyTorch) into model files."""
