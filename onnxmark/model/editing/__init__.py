"""Changing a model as a graph, through the onnx library: nodes, constants, and what the file says of itself."""
