"""What is left of a mark after simulated attacks, always beside what is left of the model.

That a mark is gone says little by itself: so would it be after deleting the file. Each family of attacks is therefore
summed up in a sentence that names the strength the mark survives and the model's accuracy there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from onnxmark.report.page import Notes, Part, Section
from onnxmark.report.pages.families import Family, families_of
from onnxmark.report.pages.phrases import LABEL, SENTENCE, accuracy_of, decisions_of, evidence, moved_of
from onnxmark.report.pages.plots import curves_of, plane_of
from onnxmark.report.pages.trials import trial_problems, trials_table
from onnxmark.report.text import shortened

Document = dict[str, Any]

_UNMEASURED: Final = (
    "What the attacks do to the model was not measured: an attack that removes the mark may have removed the model's "
    "use, too."
)
_LOST: Final = {"no-match": "not detected", "inconclusive": "inconclusive"}


def robustness_section(finding: Document, policy: Document, simulation: Document | None) -> Section:
    """Trials of a finding: sentences, curves, the fidelity-robustness plane, and every figure in a table."""
    trials, boundary = finding["robustness"], evidence(policy["log10_alpha"])
    families = families_of(trials)
    plane = plane_of(trials, boundary)
    parts: tuple[Part, ...] = (
        Notes((*(_sentence(family) for family in families), *_conditions(trials, simulation))),
        curves_of(families, boundary),
        *((plane,) if plane is not None else ()),
        trials_table(trials, boundary, evidence(finding["log10_p_value"])),
        *trial_problems(trials),
    )
    return Section("Robustness under simulated attacks", parts)


def _sentence(family: Family) -> str:
    """``Survives L1 pruning up to 90 %, where …; not detected at 95 %, where …``."""
    tried = [index for index, (_, _, trial) in enumerate(family.trials) if _was_tried(trial)]
    if not tried:
        return f"Could not try {family.name.rstrip(',')}: {shortened(str(family.trials[0][2]['problem']), SENTENCE)}"
    verdicts = [family.trials[index][2]["verdict"] for index in tried]
    lost = next((place for place, verdict in enumerate(verdicts) if verdict != "match"), len(tried))
    if len(tried) == 1 or lost == 0:
        weakest = "" if len(tried) == 1 else ", the weakest tried"
        label = shortened(family.trials[tried[0]][2]["label"], LABEL)
        return f"{_verb(verdicts[0])} {label}{weakest}{_cost(family, tried[0])}{_why(family.trials[tried[0]][2])}."
    last = tried[lost - 1]
    survived = f"Survives {family.name} {family.direction} to {family.strength(last)}{_cost(family, last)}"
    if lost == len(tried):
        return f"{survived}, the strongest tried."
    again = f", but again at {family.strength(tried[-1])}" if verdicts[-1] == "match" else ""
    first = tried[lost]
    return (
        f"{survived}; {_LOST[verdicts[lost]]} at {family.strength(first)}{_cost(family, first, repeated=True)}{again}."
    )


def _was_tried(trial: Document) -> bool:
    """Whether the attack was carried out; a reading that found no layer after it is an outcome, too."""
    return trial["bit_error_rate"] is not None or trial["problem"] is None


def _why(trial: Document) -> str:
    """Why a trial was inconclusive, as a clause."""
    reason = trial["reason"] if trial["verdict"] == "inconclusive" else None
    return "" if reason is None else f" ({shortened(str(reason), SENTENCE)})"


def _verb(verdict: str) -> str:
    return {"match": "Survives", "no-match": "Does not survive"}.get(verdict, "Inconclusive after")


def _cost(family: Family, index: int, *, repeated: bool = False) -> str:
    """What the attack did to the model, as a clause, shorter if ``repeated``; empty where nobody measured."""
    fidelity = family.trials[index][2].get("fidelity")
    if fidelity is None:
        return ""
    if accuracy_of(fidelity) is not None:
        before, after = fidelity["accuracy_before"], fidelity["accuracy_after"]
        if repeated:
            return f", where it is {after:.4f}"
        return f", where the model's accuracy is {after:.4f} ({before:.4f} before)"
    decisions = decisions_of(fidelity)
    return f", where {decisions} decisions change" if decisions else f", where outputs move {moved_of(fidelity, 'by ')}"


def _conditions(trials: Sequence[Document], simulation: Document | None) -> tuple[str, ...]:
    """Under which conditions the figures hold, and what was left out."""
    skipped = tuple(
        f"Left out: {shortened(one['attack'], LABEL)}: {shortened(one['reason'], SENTENCE)}"
        for one in (simulation or {}).get("skipped", ())
    )
    if not any(trial.get("fidelity") for trial in trials):
        return (_UNMEASURED, *skipped)
    spread = simulation is not None and simulation["spread"]
    attacked = "every layer attacked alike" if spread else "the carrier alone attacked, the least a removal can cost"
    return (f"The mark is read from the carrier; the model's answers are measured with {attacked}.", *skipped)
