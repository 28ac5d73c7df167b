"""What the entry point ``onnxmark.adapters`` names: the adapter as a value that can be listed and asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch


@dataclass(frozen=True, slots=True)
class TorchAdapter:
    """The PyTorch adapter; found by its entry point, so that ``onnxmark`` itself never imports torch."""

    name: ClassVar[str] = "torch"
    """Its name in ``onnxmark.adapters``."""

    @property
    def version(self) -> str:
        """Version of the torch that is installed."""
        return str(torch.__version__)


ADAPTER = TorchAdapter()
