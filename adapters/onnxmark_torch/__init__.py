"""Train a watermark into a PyTorch model with onnxmark's keys, and export the model with the mark checked.

    mark = Watermark(load_key("key.npy"))
    mark.attach(optimizer, model)          # or: loss = task_loss + mark.loss(model)
    ...                                    # the training loop, unchanged
    mark.export(model, (example,), "model.onnx")
    load_weights(model, "marked.onnx")     # a mark that was embedded in the file, back in the model

Models are never wrapped or renamed and their ``state_dict`` is never touched: a mark is a gradient, added once a step.
The marks of other schemes are in :mod:`onnxmark_torch.constant_weight`, :mod:`onnxmark_torch.structural` and
:mod:`onnxmark_torch.ingrain`.
"""

from onnxmark.errors import MissingExtra

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "torch":
        # torch is there and broken: hiding that behind "not installed" would send the user the wrong way.
        raise
    raise MissingExtra("torch", "torch", "the PyTorch adapter") from None

from onnxmark_torch.constant_weight import ConstantWeightMark
from onnxmark_torch.conversion.restoring import load_weights
from onnxmark_torch.exporting import ExportError, export
from onnxmark_torch.problems import Problem, TargetError
from onnxmark_torch.report import LayerReading, Report
from onnxmark_torch.schedules import CosineDecay, MarginStop, OffAfter, Schedule, WarmUp
from onnxmark_torch.watermark import Watermark

__all__ = [
    "ConstantWeightMark",
    "CosineDecay",
    "ExportError",
    "LayerReading",
    "MarginStop",
    "OffAfter",
    "Problem",
    "Report",
    "Schedule",
    "TargetError",
    "WarmUp",
    "Watermark",
    "export",
    "load_weights",
]
