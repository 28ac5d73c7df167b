"""One line for whatever a foreign file, a factory or PyTorch's exporter raises: what, where, why, what next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from onnxmark.errors import ConversionError

_LONGEST: Final = 240
_SHOWN: Final = 3


def refused(source: Path, why: str, cure: str) -> ConversionError:
    """The refusal of a container.

    Args:
        source: The container.
        why: What is wrong with it.
        cure: What to do about it.
    """
    return ConversionError(f"{str(source)!r}: {why}; {cure}")


def first_line(error: BaseException) -> str:
    """What an error says first, and of which kind it is; of a chain, the error it began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    kind = type(error).__name__
    return f"{kind}: {text[:_LONGEST]}" if text else kind


def listed(names: Sequence[str]) -> str:
    """The first few of many names, quoted."""
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
