"""Trials grouped into families: one attack at growing strength, its name and its strengths read off the labels.

A label is ``L1 pruning 65 %`` or ``quantisation 4 bit, per channel``: words before the strength name the attack, words
after it are the unit, and what follows a comma is the variant. Labels of attacks nobody has written yet may look
otherwise; they then stand as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.pages.phrases import LABEL
from onnxmark.report.text import shortened

_FIRST_ARGUMENT: Final = re.compile(r"\(\w+=[^,)]*(, )?")
_LEADING_ON: Final = re.compile(r"(,| to| by| of| with)$")
"""What leads from a title on to a strength and means nothing without it."""


@dataclass(frozen=True, slots=True)
class Family:
    """Trials of one variant of one attack, weakest first.

    Args:
        attack: Name of the attack, shared by its variants.
        title: The attack in words.
        variant: What sets this variant apart; empty for the plain one.
        unit: Of the strengths; may be empty.
        trials: Number in the report, strength in words, and entry of the document, in the document's order.
    """

    attack: str
    title: str
    variant: str
    unit: str
    trials: tuple[tuple[int, str, Document], ...]

    @property
    def name(self) -> str:
        """Title and variant."""
        return f"{self.title}, {self.variant}" if self.variant else self.title

    @property
    def direction(self) -> str:
        """``down`` where attacks grow as their parameter falls (bits), else ``up``."""
        first, last = self.trials[0][2]["parameter"], self.trials[-1][2]["parameter"]
        return "down" if is_number(first) and is_number(last) and last < first else "up"

    def strength(self, index: int) -> str:
        """Strength of a trial with its unit: ``65 %``."""
        return f"{self.trials[index][1]} {self.unit}".strip()


def is_number(parameter: object) -> bool:
    """Whether a strength can be put on an axis: the main parameter of an attack may be a word."""
    return isinstance(parameter, int | float) and not isinstance(parameter, bool)


def families_of(trials: Sequence[Document]) -> tuple[Family, ...]:
    """The families among trials, in the order in which they first appear; trials are numbered from 1."""
    groups: dict[tuple[str, str], list[tuple[int, Document]]] = {}
    for number, trial in enumerate(trials, start=1):
        variant = _FIRST_ARGUMENT.sub("(", trial["recipe"], count=1)
        groups.setdefault((trial["attack"], variant), []).append((number, trial))
    return tuple(_family(attack, members) for (attack, _), members in groups.items())


def _family(attack: str, members: Sequence[tuple[int, Document]]) -> Family:
    labels = [shortened(trial["label"], LABEL).split() for _, trial in members]
    place = _place(labels)
    words = labels[0]
    unit, _, variant = " ".join(words[place + 1 :]).partition(", ")
    return Family(
        attack=shortened(attack, LABEL),
        title=_LEADING_ON.sub("", " ".join(words[:place])) or shortened(attack, LABEL),
        variant=variant,
        unit=unit,
        trials=tuple(
            (number, label[place].rstrip(",") if place < len(label) else "", trial)
            for label, (number, trial) in zip(labels, members, strict=True)
        ),
    )


def _place(labels: Sequence[Sequence[str]]) -> int:
    """Which word of the labels is the strength: the first that differs, else the first that starts with a digit."""
    shortest = min(map(len, labels))
    differing = (index for index in range(shortest) if len({label[index] for label in labels}) > 1)
    digits = (index for index, word in enumerate(labels[0][:shortest]) if index and word[:1].isdigit())
    return next(differing, next(digits, shortest))
