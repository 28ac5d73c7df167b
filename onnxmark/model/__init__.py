"""The only place that knows ONNX: open a model, list its host weights, read them, write them back.

    with open_model("model.onnx") as model:
        for site in model.sites():
            print(site.name, site.shape, site.stored)
        weights = model.weights()

Reading stands on a walk of the protobuf wire format and imports neither onnx nor a runtime; writing may.
"""

from __future__ import annotations

from onnxmark.model.folding import Folding, FoldingState
from onnxmark.model.locate import WeightSite
from onnxmark.model.opened import Model, open_model
from onnxmark.model.write import write_model

__all__ = ["Folding", "FoldingState", "Model", "WeightSite", "open_model", "write_model"]
