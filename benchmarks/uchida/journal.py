"""Finished trainings as lines of JSON, so that an interrupted experiment goes on where it was."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Result:
    """One finished training.

    Args:
        embedding: How the mark was embedded: train, fine-tune or distill.
        key: Kind of key; ``none`` for the control.
        seed: Of initial weights, order of images and key.
        error: Test error after the last epoch, 0 to 1.
        bit_error_rate: Of the mark, 0 to 1; None for the control.
        embedding_loss: Mean over the bits of the binary cross-entropy; None for the control.
        min_margin: Smallest margin in null standard deviations; None for the control.
        seconds: Wall time of its epochs, after the last interruption included.
    """

    embedding: str
    key: str
    seed: int
    error: float
    bit_error_rate: float | None
    embedding_loss: float | None
    min_margin: float | None
    seconds: float

    @property
    def trial(self) -> tuple[str, str, int]:
        """What was trained."""
        return (self.embedding, self.key, self.seed)


@dataclass(frozen=True, slots=True)
class Journal:
    """The file of one experiment's results.

    Args:
        path: The file, one result a line.
        experiment: What every line must have been measured with.
    """

    path: Path
    experiment: str

    def results(self) -> tuple[Result, ...]:
        """Results so far, without a last line that an interruption cut off.

        Raises:
            ValueError: A line comes from another experiment.
        """
        if not self.path.is_file():
            return ()
        text = self.path.read_text(encoding="utf-8")
        # What follows the last newline was being written when the process ended.
        lines = text.split("\n")[:-1]
        return tuple(self._result(json.loads(line)) for line in lines)

    def add(self, result: Result) -> None:
        """Write one more result."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = "".join(self._line(each) for each in self.results())
        part = self.path.with_name(f"{self.path.name}.part")
        part.write_text(kept + self._line(result), encoding="utf-8")
        part.replace(self.path)

    def _line(self, result: Result) -> str:
        return json.dumps({"experiment": self.experiment, **asdict(result)}) + "\n"

    def _result(self, line: dict[str, object]) -> Result:
        found = line.pop("experiment")
        if found != self.experiment:
            raise ValueError(f"{self.path} holds another experiment ({found}); this one is {self.experiment}")
        return Result(**line)  # type: ignore[arg-type]
