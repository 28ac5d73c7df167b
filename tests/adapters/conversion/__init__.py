"""Tests of PyTorch's containers as ONNX files, and of the way back."""
