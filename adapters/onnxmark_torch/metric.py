"""A mark as a metric, for code that evaluates with torchmetrics: three figures, and no way from them to the key."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onnxmark.errors import MissingExtra
from onnxmark_torch.monitoring import FIGURES, SealedMark, figures
from onnxmark_torch.watermark import Watermark

try:
    from torchmetrics import Metric
except ModuleNotFoundError as _error:
    if _error.name != "torchmetrics":
        raise
    raise MissingExtra("torchmetrics", "torchmetrics", "the watermark metric") from None


class WatermarkMetric(Metric):
    """How a mark stands at worst: over the models (or moments) it was updated with since the reset, and over ranks.

    ``metric.update(model)`` reads the mark; ``metric.compute()`` is a dict of scalar tensors, float32:
    ``bit_error_rate`` in [0, 1], ``min_margin`` in units of a random key's standard deviation, ``log10_p`` before any
    correction. Before the first update all are infinite. Copies share the mark; pickling is refused, because the key
    would be in the pickle.

    Args:
        mark: The mark.
        **options: Passed on to :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    bit_error_rate: Tensor
    min_margin: Tensor
    log10_p: Tensor

    def __init__(self, mark: Watermark, **options: Any) -> None:
        super().__init__(**options)
        self._sealed = SealedMark(mark)
        for name, (worst, start) in _WORST.items():
            self.add_state(name, torch.tensor(start), dist_reduce_fx=worst)

    @property
    def mark(self) -> Watermark:
        """The mark."""
        return self._sealed.mark

    def __repr__(self) -> str:
        return f"WatermarkMetric({self.mark})"

    def update(self, model: nn.Module) -> None:
        """Read the mark from a model.

        Raises:
            TargetError: No layer, or no single layer, fits the key.
        """
        for name, value in figures(self.mark.report(model)).items():
            worse = torch.minimum if _WORST[name][0] == "min" else torch.maximum
            state: Tensor = getattr(self, name)
            setattr(self, name, worse(state, state.new_tensor(value)))

    def compute(self) -> dict[str, Tensor]:
        """The worst figures, each a scalar."""
        return {name: getattr(self, name) for name in FIGURES}


_WORST = {
    "bit_error_rate": ("max", -torch.inf),
    "min_margin": ("min", torch.inf),
    "log10_p": ("max", -torch.inf),
}
"""For each figure the bad end, and where a search for it starts."""
