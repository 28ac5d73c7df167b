"""PyTorch's containers as ONNX files, and marked ONNX weights back in the module they came from.

The converters are entry points in ``onnxmark.adapters``: :mod:`~onnxmark_torch.conversion.exported` (``pt2``),
:mod:`~onnxmark_torch.conversion.tensors` (``safetensors``), :mod:`~onnxmark_torch.conversion.pickles`
(``torch``). They write without folding batch normalisation, so that weights in the file are the module's own.
"""
