"""What a training leaves behind besides the weights."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch.

    Args:
        epoch: Counted from 1.
        rate: Learning rate of its last step.
        loss: Mean objective over its steps, the mark's own loss not included.
        score: The task's score on the test images after it; None where it was not asked for.
        n_steps: Optimizer steps, at least 1.
        seconds: Wall time, evaluation not included; no part of comparisons.
    """

    epoch: int
    rate: float
    loss: float
    score: float | None
    n_steps: int
    seconds: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class History:
    """A whole training.

    Args:
        epochs: In order, at least one.
    """

    epochs: tuple[EpochRecord, ...]

    @property
    def score(self) -> float:
        """The score after the last epoch, which is always asked for."""
        score = self.epochs[-1].score
        if score is None:
            raise ValueError("the last epoch was not evaluated")
        return score

    @property
    def best_score(self) -> float:
        """The largest score of any epoch evaluated; flattering, because the test images chose the epoch."""
        return max(record.score for record in self.epochs if record.score is not None)

    @property
    def loss(self) -> float:
        """Mean objective of the last epoch."""
        return self.epochs[-1].loss

    @property
    def n_steps(self) -> int:
        """Optimizer steps of all epochs."""
        return sum(record.n_steps for record in self.epochs)

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, evaluation not included."""
        return sum(record.seconds for record in self.epochs)
