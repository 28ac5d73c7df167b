"""What is left of a mark after simulated attacks, always beside what is left of the model.

The answer comes first, in a table of a row for each attack; then what removal costs, how evidence fades as attacks
grow, and every figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Notes, Part, Section
from onnxmark.report.pages.families import families_of
from onnxmark.report.pages.phrases import LABEL, SENTENCE, evidence
from onnxmark.report.pages.plots import curves_of, plane_of
from onnxmark.report.pages.survival import doubts, not_tried, survival_table
from onnxmark.report.pages.trials import trial_problems, trials_table
from onnxmark.report.text import shortened

_UNMEASURED: Final = (
    "What the attacks do to the model was not measured: an attack that removes the mark may have removed the model's "
    "use, too."
)


def robustness_section(finding: Document, policy: Document, simulation: Document | None) -> Section:
    """Trials of a finding: a table of attacks, the fidelity-robustness plane, curves, and every figure in a table."""
    trials, boundary = finding["robustness"], evidence(policy["log10_alpha"])
    families = families_of(trials)
    drawn = (survival_table(families), plane_of(trials, boundary))
    survival, plane = (() if part is None else (part,) for part in drawn)
    parts: tuple[Part, ...] = (
        *survival,
        Notes((*not_tried(families), *doubts(families), *_conditions(trials, simulation))),
        *plane,
        curves_of(families, boundary),
        trials_table(trials, boundary, evidence(finding["log10_p_value"])),
        *trial_problems(trials),
    )
    return Section("Robustness under simulated attacks", parts)


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
