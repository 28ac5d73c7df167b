"""onnxmark: embed, attack and audit ownership watermarks in neural networks stored as ONNX."""

__version__ = "0.1.0"
