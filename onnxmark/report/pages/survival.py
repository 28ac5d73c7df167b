"""How far the mark lasts, attack by attack, and what is left of the model there: a sweep on one screen.

That a mark is gone says little by itself: so would it be after deleting the file. A row therefore names the strength a
mark survives and the strength at which it is lost, and beside either what the model still does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Table, Tone
from onnxmark.report.pages.families import Family
from onnxmark.report.pages.phrases import LABEL, SENTENCE, accuracy_of, decisions_of, moved_of, tone_of
from onnxmark.report.text import shortened

_ABSENT: Final = "–"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of the mark in a family, by index of its trials.

    Args:
        family: The attack at growing strength.
        n_tried: Trials that were carried out.
        survived: The strongest before the first loss; None if the weakest one was too strong.
        lost: The first that the mark did not survive; None if it survived all.
        again: The strongest survived beyond that, if any: chance, or an attack that does not grow evenly.
    """

    family: Family
    n_tried: int
    survived: int | None
    lost: int | None
    again: int | None

    def trial(self, index: int) -> Document:
        return self.family.trials[index][2]


@dataclass(frozen=True, slots=True)
class _Measure:
    """What is left of a model, in the words of a column; None where a trial lacks it."""

    title: str
    of: Callable[[Document], str | None]


def _accuracy_after(fidelity: Document) -> str | None:
    return None if accuracy_of(fidelity) is None else f"{fidelity['accuracy_after']:.3f}"


_MEASURES: Final = (
    _Measure("accuracy", _accuracy_after),
    _Measure("decisions changed", decisions_of),
    _Measure("outputs moved", moved_of),
)
"""The strictest first."""


def survival_table(families: Sequence[Family]) -> Table | None:
    """A row for each family that was tried; None if none was."""
    outcomes = _outcomes(families)
    if not outcomes:
        return None
    fidelities = [
        trial["fidelity"] for one in families for _, _, trial in one.trials if trial.get("fidelity") is not None
    ]
    measure = _common_measure(fidelities)
    there = () if measure is None else (Column(measure.title, numeric=True),)
    columns = (Column("attack"), Column("survives"), *there, Column("lost at"), *there)
    return Table(_caption(fidelities), columns, tuple(_row(one, measure) for one in outcomes))


def not_tried(families: Sequence[Family]) -> tuple[str, ...]:
    """Why families have no row, a sentence each."""
    return tuple(
        f"Could not try {family.name}: {shortened(str(family.trials[0][2]['problem']), SENTENCE)}"
        for family in families
        if _outcome(family) is None
    )


def doubts(families: Sequence[Family]) -> tuple[str, ...]:
    """Why marks are inconclusive where they are lost, a sentence for each reason."""
    places: dict[str, list[str]] = {}
    for one in _outcomes(families):
        trial = None if one.lost is None else one.trial(one.lost)
        if trial is not None and trial["verdict"] == "inconclusive" and trial["reason"]:
            places.setdefault(shortened(str(trial["reason"]), SENTENCE), []).append(shortened(trial["label"], LABEL))
    return tuple(f"Inconclusive after {'; '.join(found)}: {reason}." for reason, found in places.items())


def _outcomes(families: Sequence[Family]) -> list[_Outcome]:
    return [outcome for family in families if (outcome := _outcome(family)) is not None]


def _outcome(family: Family) -> _Outcome | None:
    tried = [index for index, (_, _, trial) in enumerate(family.trials) if _was_tried(trial)]
    if not tried:
        return None
    survived = [family.trials[index][2]["verdict"] == "match" for index in tried]
    place = next((place for place, kept in enumerate(survived) if not kept), len(tried))
    return _Outcome(
        family,
        len(tried),
        tried[place - 1] if place else None,
        tried[place] if place < len(tried) else None,
        next((index for index, kept in zip(tried[:place:-1], survived[:place:-1], strict=True) if kept), None),
    )


def _was_tried(trial: Document) -> bool:
    """Whether the attack was carried out; a reading that found no layer after it is an outcome, too."""
    return trial["bit_error_rate"] is not None or trial["problem"] is None


def _common_measure(fidelities: Sequence[Document]) -> _Measure | None:
    """The strictest measure that every trial measured at all has, so that a column compares like with like."""
    if not fidelities:
        return None
    return next(measure for measure in _MEASURES if all(measure.of(one) is not None for one in fidelities))


def _caption(fidelities: Sequence[Document]) -> str:
    if not fidelities:
        return "How far the mark lasts"
    caption = "How far the mark lasts, and what is left of the model there"
    if any(accuracy_of(one) is None for one in fidelities):
        return caption
    low, high = (f"{end(one['accuracy_before'] for one in fidelities):.4f}" for end in (min, max))
    return f"{caption} (accuracy before: {low if low == high else f'{low} to {high}'})"


def _row(outcome: _Outcome, measure: _Measure | None) -> tuple[Cell, ...]:
    return (
        Cell(outcome.family.name),
        _survived(outcome),
        *_there(outcome, outcome.survived, measure),
        _lost(outcome),
        *_there(outcome, outcome.lost, measure),
    )


def _survived(outcome: _Outcome) -> Cell:
    if outcome.survived is None:
        return Cell(_ABSENT)
    strength = outcome.family.strength(outcome.survived)
    if outcome.n_tried > 1 and strength:
        return Cell(f"{outcome.family.direction} to {strength}", Tone.GOOD)
    return Cell(strength or "yes", Tone.GOOD)


def _lost(outcome: _Outcome) -> Cell:
    if outcome.lost is None:
        return Cell(_ABSENT)
    verdict = outcome.trial(outcome.lost)["verdict"]
    word = "not detected" if verdict == "no-match" else "inconclusive"
    again = "" if outcome.again is None else f", match again{_at(outcome, outcome.again)}"
    return Cell(f"{word}{_at(outcome, outcome.lost)}{again}", tone_of(verdict))


def _at(outcome: _Outcome, index: int) -> str:
    strength = outcome.family.strength(index)
    return f" at {strength}" if strength else ""


def _there(outcome: _Outcome, index: int | None, measure: _Measure | None) -> tuple[Cell, ...]:
    """The cell of what is left of the model after a trial; no cell where nobody measured any."""
    if measure is None:
        return ()
    fidelity = None if index is None else outcome.trial(index).get("fidelity")
    return (Cell(_ABSENT if fidelity is None else measure.of(fidelity) or _ABSENT),)
