"""Running a model through ONNX Runtime: its answers, the inputs of a layer, and answers under other weights."""
