"""The table of trials: every figure of a sweep, the mark's beside the model's, for every format to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Bar, Cell, Column, Notes, Table
from onnxmark.report.pages.phrases import LABEL, SENTENCE, accuracy_of, decisions_of, evidence, moved_of, tone_of
from onnxmark.report.text import shortened


@dataclass(frozen=True, slots=True)
class _Figure:
    """An optional column of the table of trials, left out where no trial has it."""

    title: str
    of: Callable[[Document], str | None]


def _of_fidelity(text: Callable[[Document], str | None]) -> Callable[[Document], str | None]:
    return lambda trial: text(trial["fidelity"]) if trial.get("fidelity") is not None else None


def _interval(trial: Document) -> str | None:
    interval = trial.get("bit_error_rate_interval")
    return None if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"


def _weights_moved(trial: Document) -> str | None:
    change = trial.get("relative_change")
    return None if change is None else f"{change:.1%}"


def _coded(trial: Document) -> str | None:
    ratio = trial.get("coded_ratio")
    return None if ratio is None else f"1/{ratio:.1f}"


_INTERVALS: Final = (_Figure("95 % interval", _interval),)
_COSTS: Final = (
    _Figure("accuracy", _of_fidelity(accuracy_of)),
    _Figure("decisions changed", _of_fidelity(decisions_of)),
    _Figure("outputs moved", _of_fidelity(moved_of)),
)
_FURTHER: Final = (
    _Figure("weights moved", _weights_moved),
    _Figure("coded size", _coded),
)


def trials_table(trials: Sequence[Document], boundary: float, unattacked: float) -> Table:
    """Every trial: the evidence left against the boundary of a match, BER, verdict, and what became of the model."""
    scale = max([unattacked, boundary, 1e-9, *(evidence(trial["log10_p_value"]) for trial in trials)])
    intervals, costs, further = (_present(figures, trials) for figures in (_INTERVALS, _COSTS, _FURTHER))
    columns = (
        Column("#", numeric=True),
        Column("attack"),
        Column("evidence left"),
        Column("BER", numeric=True),
        *(Column(figure.title, numeric=True, detail=True) for figure in intervals),
        Column("verdict"),
        # What it cost the model in the strictest measure there is stands beside the verdict in every format.
        *(Column(figure.title, numeric=True, detail=index > 0) for index, figure in enumerate(costs)),
        *(Column(figure.title, numeric=True, detail=True) for figure in further),
    )
    rows = tuple(
        (
            *_identity(number, trial, boundary, scale),
            *_cells(intervals, trial),
            Cell(_verdict(trial), tone_of(trial["verdict"])),
            *_cells((*costs, *further), trial),
        )
        for number, trial in enumerate(trials, start=1)
    )
    return Table("Trials", columns, rows, _legend(trials))


def _present(figures: Sequence[_Figure], trials: Sequence[Document]) -> list[_Figure]:
    return [figure for figure in figures if any(figure.of(trial) is not None for trial in trials)]


def _cells(figures: Sequence[_Figure], trial: Document) -> tuple[Cell, ...]:
    return tuple(Cell(figure.of(trial) or "–") for figure in figures)


def _identity(number: int, trial: Document, boundary: float, scale: float) -> tuple[Cell, ...]:
    left, rate = evidence(trial["log10_p_value"]), trial["bit_error_rate"]
    return (
        Cell(str(number)),
        Cell(shortened(trial["label"], LABEL)),
        Cell(f"{left:.1f}", tone_of(trial["verdict"]), bar=Bar(left / scale, boundary / scale)),
        Cell("–" if rate is None else f"{rate:.3f}"),
    )


def _verdict(trial: Document) -> str:
    draws = f" {trial['n_survived']}/{trial['n_draws']}" if trial["n_draws"] > 1 else ""
    return f"{trial['verdict']}{draws}"


def _legend(trials: Sequence[Document]) -> str:
    bars = "Evidence left is −log₁₀ p after correction; │ marks the boundary of a match."
    if all(trial["n_draws"] <= 1 for trial in trials):
        return bars
    return (
        f"{bars} Random attacks are drawn several times: evidence and verdict are those of the worst draw, with the "
        "number of draws survived; BER is the mean, with its 95 % confidence interval."
    )


def trial_problems(trials: Sequence[Document]) -> tuple[Notes, ...]:
    """What could not be tried or measured, by number of the trial."""
    sentences = tuple(
        f"Trial {number}, {shortened(trial['label'], LABEL)}: {shortened(trial['problem'], SENTENCE)}"
        for number, trial in enumerate(trials, start=1)
        if trial.get("problem")
    )
    return (Notes(sentences),) if sentences else ()
