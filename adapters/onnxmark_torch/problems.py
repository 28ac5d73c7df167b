"""What stands in a mark's way, said with its cure, so that ``validate`` can list it and an error can raise it."""

from __future__ import annotations

from dataclasses import dataclass

from onnxmark.errors import CarrierError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that stands in the way of a mark.

    Args:
        what: What is wrong, and with which layer.
        cure: What to do about it.
    """

    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what}; {self.cure}"


class TargetError(CarrierError):
    """The model has no layer, or no single layer, that the mark can go into."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem
