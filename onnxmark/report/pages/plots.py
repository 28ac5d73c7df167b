"""The two charts of a sweep: how far the mark lasts, and what its removal costs the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from onnxmark.report.formats import Document
from onnxmark.report.page import CurvePoint, Curves, Panel, Plane, PlanePoint, Series
from onnxmark.report.pages.families import Family, is_number
from onnxmark.report.pages.phrases import LABEL, accuracy_of, evidence, tone_of
from onnxmark.report.text import shortened

_EVIDENCE: Final = "evidence left: −log₁₀ p, after correction"


def curves_of(families: Sequence[Family], boundary: float) -> Curves:
    """A panel for each attack, with a curve for each of its variants; attacks that could not be tried have none."""
    groups: dict[str, list[Family]] = {}
    for family in families:
        groups.setdefault(family.attack, []).append(family)
    note = (
        "Strengths as tried, weakest on the left; steps are not to scale. Above the line the verdict is a match. Where "
        "an attack is random the point is the worst draw, and the whisker reaches to the best."
    )
    panels = tuple(panel for members in groups.values() if any((panel := _panel(members)).series))
    return Curves("How evidence fades", panels, _EVIDENCE, boundary, note)


_Place = tuple[Any, str, int]
"""Parameter and strength in words, and how many trials of the same family had the same before."""


def _panel(families: Sequence[Family]) -> Panel:
    """One attack: the strengths of its variants on a common axis, in the order of the first variant."""
    ticks = list(dict.fromkeys(place for family in families for place in _places(family)))
    if all(is_number(parameter) for parameter, _, _ in ticks):
        ticks.sort(key=lambda place: place[0], reverse=families[0].direction == "down")
    unit = families[0].unit
    return Panel(
        families[0].title if len(families) > 1 else families[0].name,
        f"strength ({unit})" if unit else "strength",
        tuple(strength for _, strength, _ in ticks),
        tuple(Series(family.variant or "plain", points) for family in families if (points := _points(family, ticks))),
    )


def _places(family: Family) -> list[_Place]:
    """A place on the axis for every trial: formats of one width (float16, bfloat16) are still two strengths."""
    before: Counter[tuple[Any, str]] = Counter()
    places = []
    for _, strength, trial in family.trials:
        named = (trial["parameter"], strength)
        places.append((*named, before[named]))
        before[named] += 1
    return places


def _points(family: Family, ticks: Sequence[_Place]) -> tuple[CurvePoint, ...]:
    read = [
        (ticks.index(place), family.strength(index) or family.title, trial)
        for index, (place, (_, _, trial)) in enumerate(zip(_places(family), family.trials, strict=True))
        if trial["bit_error_rate"] is not None
    ]
    return tuple(
        CurvePoint(
            tick,
            evidence(trial["log10_p_value"]),
            evidence(min(trial.get("log10_p_values") or [trial["log10_p_value"]])),
            tone_of(trial["verdict"]),
            f"{strength}: {trial['verdict']}, BER {trial['bit_error_rate']:.3f}",
        )
        for tick, strength, trial in sorted(read, key=lambda one: one[0])
    )


@dataclass(frozen=True, slots=True)
class _Loss:
    """A measure of what a model lost; None where a trial lacks it."""

    axis: str
    of: Callable[[Document], float | None]


def _accuracy_drop(fidelity: Document) -> float | None:
    if accuracy_of(fidelity) is None:
        return None
    return float(fidelity["accuracy_before"] - fidelity["accuracy_after"])


def _decisions_changed(fidelity: Document) -> float | None:
    changed = fidelity["decisions_changed"]
    return None if changed is None else float(changed / max(fidelity["n_inputs"], 1))


_LOSSES: Final = (
    _Loss("accuracy lost (percentage points)", _accuracy_drop),
    _Loss("decisions changed (% of inputs)", _decisions_changed),
    _Loss("change of the outputs (% of their norm)", lambda fidelity: fidelity["relative_change"]),
)


def plane_of(trials: Sequence[Document], boundary: float) -> Plane | None:
    """The plane in the strictest measure of loss that any trial has; None without fidelity."""
    measured = [
        (number, trial)
        for number, trial in enumerate(trials, start=1)
        if trial.get("fidelity") is not None and trial["bit_error_rate"] is not None
    ]
    for loss in _LOSSES:
        points = tuple(
            PlanePoint(
                number,
                lost,
                evidence(trial["log10_p_value"]),
                tone_of(trial["verdict"]),
                f"{shortened(trial['label'], LABEL)}: {trial['verdict']}",
            )
            for number, trial in measured
            if (lost := loss.of(trial["fidelity"])) is not None
        )
        if points:
            note = (
                "Numbers are those of the table of trials. Below the line the mark is gone; the further right, the "
                "more of the model has gone with it."
            )
            title = "What removal costs"
            return Plane(title, points, loss.axis, _EVIDENCE, boundary, percent=True, note=note)
    return None
