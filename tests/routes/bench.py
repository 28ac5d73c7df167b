"""Where a route starts: the marked network and its plain exports, each written once."""

from __future__ import annotations

import logging
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from onnxmark.keys import Key
from tests.routes.network import Net, digits

INPUT = "images"


class Bench:
    """The marked network, its key, and models made from it; everything is written under ``folder``."""

    def __init__(self, model: Net, key: Key, folder: Path) -> None:
        self.model, self.key, self.folder = model, key, folder
        self.example = (torch.zeros(2, 1, 8, 8),)
        self.exported = cache(self._exported)

    def _exported(self, name: str) -> Path:
        """``dynamo``, ``torchscript``, or either ``raw`` (BN not folded): opset 18, no data files."""
        path = self.folder / f"{name.replace(' ', '-')}.onnx"
        if name.startswith("dynamo"):
            return self.dynamo(path, external_data=False, optimize=name == "dynamo")
        return self.torchscript(path, do_constant_folding=name == "torchscript")

    def loaded(self, name: str) -> onnx.ModelProto:
        """A fresh copy of one of the exports."""
        return onnx.load(self.exported(name))

    def dynamo(self, path: Path, *, opset: int | None = 18, model: Any = None, **options: Any) -> Path:
        """Export with torch's default exporter."""
        with quiet():
            torch.onnx.export(
                self.model if model is None else model, self.example if "args" not in options else options.pop("args"),
                path, input_names=[INPUT], opset_version=opset, verbose=False, **options,
            )  # fmt: skip
        return path

    def torchscript(self, path: Path, *, opset: int = 18, model: Any = None, **options: Any) -> Path:
        """Export with the older exporter."""
        with quiet():
            torch.onnx.export(
                self.model if model is None else model, self.example if "args" not in options else options.pop("args"),
                path, input_names=[INPUT], opset_version=opset, dynamo=False, **options,
            )  # fmt: skip
        return path


class quiet(warnings.catch_warnings):  # noqa: N801
    """No warnings and no logging while another tool runs: what it says is its own affair."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)

    def __exit__(self, *error: object) -> None:
        logging.disable(logging.NOTSET)
        super().__exit__(*error)


def images(count: int) -> np.ndarray:
    """Inputs, shape (count, 1, 8, 8)."""
    return np.asarray(digits()[0][:count].numpy())


def saved(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model without external data."""
    path.write_bytes(model.SerializeToString())
    return path
