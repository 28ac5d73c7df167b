"""How long the rest of a run takes, learnt while it goes on: trainings and readings are not slow by one factor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from onnxmark.evaluation.cells import Cell
from onnxmark.evaluation.loads import USUAL, Loads

_Family = tuple[object, ...]
"""Cells whose durations are off by about one factor."""


class Pace:
    """What is left of a run.

    Cells take at first what is usual (:data:`onnxmark.evaluation.loads.USUAL`). What was measured corrects that for
    the same scheme and modification; where neither was measured yet, for whatever trains as they do, or does not.

    Args:
        loads: What cells take.
        cells: The cells to carry out.
    """

    def __init__(self, loads: Loads, cells: Iterable[Cell]) -> None:
        self._loads = loads
        self._left: dict[tuple[_Family, _Family], float] = defaultdict(float)
        self._usual: dict[_Family, float] = defaultdict(float)
        self._measured: dict[_Family, float] = defaultdict(float)
        for cell in cells:
            families, usual = self._expected(cell)
            self._left[families] += usual

    def settle(self, cell: Cell, seconds: float | None) -> None:
        """Count a cell as done.

        Args:
            cell: The cell.
            seconds: What it took; None where it was not carried out, which says nothing of others.
        """
        families, usual = self._expected(cell)
        self._left[families] -= usual
        if seconds is not None:
            for family in families:
                self._usual[family] += usual
                self._measured[family] += seconds

    @property
    def seconds_left(self) -> float | None:
        """What one worker needs for the rest; None before anything was measured here."""
        if not self._measured:
            return None
        return sum(max(left, 0.0) * self._factor(families) for families, left in self._left.items())

    def _factor(self, families: tuple[_Family, _Family]) -> float:
        return next((self._measured[each] / self._usual[each] for each in families if self._usual[each]), 1.0)

    def _expected(self, cell: Cell) -> tuple[tuple[_Family, _Family], float]:
        """The narrow and the wide family of a cell, and the seconds it usually takes."""
        load = self._loads.load(cell)
        row = None if cell.change is None else cell.change[0]
        return ((cell.kind, cell.scheme, row), ("trains", load.batch > 0)), load @ USUAL
