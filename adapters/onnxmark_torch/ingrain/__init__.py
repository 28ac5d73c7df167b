"""Watermarks in what a network answers, made to outlive distillation: carriers, trainings, and what they teach.

Reading such a mark takes no framework: it is done through ONNX Runtime, on answers alone. What is here makes it.
"""

from onnxmark_torch.ingrain.carriers import Carriers, joined, near_boundary, varied
from onnxmark_torch.ingrain.keyed import keyed_carriers, write_pool
from onnxmark_torch.ingrain.knowledge import Lesson
from onnxmark_torch.ingrain.neighbourhoods import neighbourhoods
from onnxmark_torch.ingrain.synthetic import KINDS
from onnxmark_torch.ingrain.training import Trained, distilled, train_host, train_ingrainer, with_carriers

__all__ = [
    "KINDS",
    "Carriers",
    "Lesson",
    "Trained",
    "distilled",
    "joined",
    "keyed_carriers",
    "near_boundary",
    "neighbourhoods",
    "train_host",
    "train_ingrainer",
    "varied",
    "with_carriers",
    "write_pool",
]
