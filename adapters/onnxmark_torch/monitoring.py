"""What a training framework may learn of a mark: three figures, and whether the mark can be trained at all.

Frameworks copy, log and store whatever they are handed. A mark holds a key, so they are handed it sealed, and out of a
reading they get :data:`FIGURES` and nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from torch import nn
from torch.optim import Optimizer

from onnxmark_torch.layers import HostLayer
from onnxmark_torch.problems import Problem, TargetError
from onnxmark_torch.report import Report
from onnxmark_torch.targets import find_targets
from onnxmark_torch.validation import not_trained
from onnxmark_torch.watermark import Watermark

FIGURES: Final = ("bit_error_rate", "min_margin", "log10_p")
"""The properties of a :class:`~onnxmark_torch.report.Report` that may leave the process."""


class SealedMark:
    """A mark that may be held but not stored: copies share it, and pickling is refused.

    Args:
        mark: The mark.
    """

    __slots__ = ("mark",)

    def __init__(self, mark: Watermark) -> None:
        self.mark = mark

    def __repr__(self) -> str:
        return repr(self.mark)

    def __deepcopy__(self, memo: dict[int, Any]) -> SealedMark:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a mark holds its key and cannot be pickled; save state_dict() instead of the object, "
            "and let every process load the key file itself"
        )


def figures(report: Report, prefix: str = "") -> dict[str, float]:
    """The figures of a reading, by name, with ``prefix`` before each name."""
    return {f"{prefix}{name}": float(getattr(report, name)) for name in FIGURES}


def check_cadence(every_n_steps: int | None, end_at_margin: float | None) -> None:
    """Refuse numbers that a training cannot be read or ended by.

    Raises:
        ValueError: Steps below 1, or a margin of 0 or less, at which a mark with wrong bits would do.
    """
    if every_n_steps is not None and every_n_steps < 1:
        raise ValueError(f"every_n_steps must be at least 1, not {every_n_steps}")
    if end_at_margin is not None and not end_at_margin > 0:
        raise ValueError(f"end_at_margin must be above 0, not {end_at_margin}")


def reaches(report: Report, margin: float | None) -> bool:
    """Whether the smallest margin of a reading is at least ``margin``; never for None."""
    return margin is not None and report.min_margin >= margin


def require_none(problems: Sequence[Problem], *, strict: bool) -> None:
    """Stop before hours of training are lost, or at least warn.

    Args:
        problems: What :meth:`~onnxmark_torch.watermark.Watermark.validate` found.
        strict: Raise; otherwise warn of each.

    Raises:
        TargetError: There are problems and ``strict`` is set; the first is the message, the others are its notes.
    """
    if not strict:
        for problem in problems:
            warnings.warn(str(problem), stacklevel=3)
    elif problems:
        error = TargetError(problems[0])
        for problem in problems[1:]:
            error.add_note(str(problem))
        raise error


def marked_layers(mark: Watermark, model: nn.Module) -> tuple[HostLayer, ...]:
    """The layers that the mark goes into.

    Raises:
        TargetError: No layer, or no single layer, fits the key.
    """
    return tuple(target.layer for target in find_targets(model, mark.key, mark.target_modules))


def trains(optimizer: Optimizer, layers: Sequence[HostLayer]) -> bool:
    """Whether an optimizer trains these layers: all of them, or none.

    Raises:
        TargetError: It trains some only; the others would get the mark's gradient at the steps of two optimizers.
    """
    answers = {not_trained(optimizer, layer) is None for layer in layers}
    if len(answers) > 1:
        what = "the layers of one mark are trained by different optimizers"
        raise TargetError(Problem(what, "make one Watermark for each optimizer, with its layers in target_modules"))
    return answers == {True}
