"""The fidelity experiment's table: test error beside its control's, seed by seed, and the paper's figures.

Networks of one seed share weights and order of images, so the cost of a mark is the mean of paired differences, with
Student's interval over seeds; the spread of errors over seeds says nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from onnxmark_torch.recipes import KEY_KINDS
from rich.table import Table
from scipy import stats

from benchmarks.uchida.journal import Result

EMBEDDINGS: Final = ("train", "fine-tune", "distill")
PAPER: Final = {
    ("train", "none"): ("8.04", "-"),
    ("train", "direct"): ("8.21", "1.24e-1"),
    ("train", "diff"): ("8.37", "6.20e-2"),
    ("train", "random"): ("7.97", "4.76e-4"),
}
"""Test error in % and mean E_R: WRN-10-4, CIFAR-10, 200 epochs; the three with a mark as remembered, not re-read."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a mark costs in test error.

    Args:
        mean: Mean over seeds of marked minus unmarked.
        half_width: Of its 95 % interval; infinite for a single seed.
    """

    mean: float
    half_width: float

    @classmethod
    def of(cls, marked: Sequence[Result], controls: Sequence[Result]) -> Cost | None:
        """The cost over the seeds that both have; None where there are none."""
        errors = {result.seed: result.error for result in controls}
        differences = [result.error - errors[result.seed] for result in marked if result.seed in errors]
        if not differences:
            return None
        count = len(differences)
        if count == 1:
            return cls(differences[0], np.inf)
        spread = np.std(differences, ddof=1) / np.sqrt(count)
        return cls(float(np.mean(differences)), float(stats.t.ppf(0.975, count - 1) * spread))

    def __str__(self) -> str:
        if np.isinf(self.half_width):
            return f"{100 * self.mean:+.2f}"
        return f"{100 * self.mean:+.2f} ± {100 * self.half_width:.2f}"


def table(results: Sequence[Result], title: str) -> Table:
    """The table of all results."""
    columns = ("embedding", "key", "seeds", "error %", "cost (95 %)", "BER", "mean E_R", "min margin", "s each")
    drawn = Table(*columns, "paper: error %", "mean E_R", title=title)
    for row in rows(results):
        drawn.add_row(*row)
    return drawn


def rows(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    """One row for each embedding and key that has results, controls first."""
    for embedding in EMBEDDINGS:
        controls = _those(results, embedding, "none")
        for key in ("none", *(kind.name for kind in KEY_KINDS)):
            found = _those(results, embedding, key)
            if found:
                yield _row(found, Cost.of(found, controls) if key != "none" else None)


def _those(results: Sequence[Result], embedding: str, key: str) -> list[Result]:
    return [result for result in results if (result.embedding, result.key) == (embedding, key)]


def _row(found: Sequence[Result], cost: Cost | None) -> tuple[str, ...]:
    errors = [100 * result.error for result in found]
    first = found[0]
    return (
        first.embedding,
        first.key,
        str(len(found)),
        f"{np.mean(errors):.2f} ({min(errors):.2f}-{max(errors):.2f})",
        "-" if cost is None else str(cost),
        _mean([result.bit_error_rate for result in found], ".4f"),
        _mean([result.embedding_loss for result in found], ".2e"),
        _mean([result.min_margin for result in found], ".2f"),
        f"{np.mean([result.seconds for result in found]):.0f}",
        *PAPER.get((first.embedding, first.key), ("-", "-")),
    )


def _mean(figures: Sequence[float | None], style: str) -> str:
    known = [figure for figure in figures if figure is not None]
    return format(float(np.mean(known)), style) if known else "-"
