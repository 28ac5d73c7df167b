"""Phrases that several pages share, so that the same thing is said in the same words everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Fact, Tone
from onnxmark.report.text import power_of_ten, shortened

NAME: Final = 80
"""Characters of a layer's name that a report shows."""

LABEL: Final = 60
"""Characters of the label of an attack."""

PATH: Final = 200
SENTENCE: Final = 400

_TONES: Final = {"match": Tone.GOOD, "no-match": Tone.BAD, "inconclusive": Tone.DOUBT}
_HEADLINES: Final = {"match": "MATCH", "no-match": "NO MATCH", "inconclusive": "INCONCLUSIVE"}
_SUITABILITY: Final = {
    "comfortable": Tone.GOOD,
    "tight": Tone.DOUBT,
    "poor": Tone.BAD,
    "over capacity": Tone.BAD,
}


def tone_of(verdict: str) -> Tone:
    """The tone of a verdict."""
    return _TONES.get(verdict, Tone.DOUBT)


def badge_of(verdict: str) -> Cell:
    """A verdict in capitals."""
    return Cell(_HEADLINES.get(verdict, verdict), tone_of(verdict))


def shape_of(sizes: Sequence[int]) -> str:
    """``64×32×3×3``."""
    return "×".join(map(str, sizes))


def carriers_of(carrier: Document, words: str = "") -> tuple[Fact, ...]:
    """One line for each layer that a key reads, up to eight; one for the model where it asks."""
    layers = carrier["layers"]
    if not layers:
        return (Fact("carrier", carrier["name"], carrier["kind"]),)
    shown = tuple(
        Fact("carrier", name_of(layer["name"]), f"{layer_of(layer)}{words}", literal=True) for layer in layers[:_SHOWN]
    )
    more = len(layers) - _SHOWN
    return (*shown, *((Fact("carrier", f"and {more} more layers"),) if more > 0 else ()))


_SHOWN: Final = 8


def layer_of(carrier: Document) -> str:
    """Operator and shape of a layer: ``Conv 64×32×3×3``."""
    return f"{shortened(carrier['op'], 30)} {shape_of(carrier['shape'])}"


def name_of(text: str) -> str:
    """A name at a length that leaves room for others."""
    return shortened(text, NAME)


def probability(log10_p: float | None) -> str:
    """A p-value; None stands for one of exactly 0."""
    return "0" if log10_p is None else power_of_ten(log10_p)


def evidence(log10_p: float) -> float:
    """Evidence of a p-value: ``-log10 p``, from 0 to what no message is long enough for."""
    return min(max(0.0, -log10_p), 1e6)


def room(capacity: Document) -> Cell:
    """What a layer offers to a message."""
    word = str(capacity["suitability"])
    return Cell(f"{word} (T/M {capacity['ratio']:.2g})", _SUITABILITY.get(word, Tone.NEUTRAL))


def accuracy_of(fidelity: Document | None) -> str | None:
    """``0.9033 → 0.5120``, or None where there were no labels."""
    if fidelity is None or fidelity["accuracy_before"] is None or fidelity["accuracy_after"] is None:
        return None
    return f"{fidelity['accuracy_before']:.4f} → {fidelity['accuracy_after']:.4f}"


def decisions_of(fidelity: Document | None) -> str | None:
    """``97 of 256``, or None where outputs are no decisions."""
    if fidelity is None or fidelity["decisions_changed"] is None:
        return None
    return f"{fidelity['decisions_changed']} of {fidelity['n_inputs']}"


def moved_of(fidelity: Document, by: str = "") -> str:
    """By how much the outputs moved; where they are no numbers any more, that has no measure."""
    change = fidelity["relative_change"]
    return "beyond measure" if change is None else f"{by}{change:.2%}"


def fidelity_sentences(fidelity: Document) -> list[str]:
    """What became of a model's outputs."""
    inputs, provider = f"{fidelity['n_inputs']} inputs", shortened(fidelity["provider"], 60)
    lines = [f"moved {moved_of(fidelity, 'by ')} on {inputs} ({provider})"]
    decisions, accuracy = decisions_of(fidelity), accuracy_of(fidelity)
    if decisions is not None:
        lines.append(f"{decisions} top-1 decisions changed")
    if accuracy is not None:
        lines.append(f"accuracy {accuracy}")
    return lines


def colophon(document: Document) -> str:
    """What made a document, and what it is."""
    tool = document.get("tool") or {"name": "onnxmark", "version": ""}
    return f"{shortened(tool['name'], 40)} {shortened(tool['version'], 40)} · {document['schema']}"


def counted(count: int, noun: str) -> str:
    """``1 trial``, ``3 trials``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def many(count: int, noun: str, nouns: str = "") -> str:
    """``1 model``, ``10,000 models``; the plural where an s will not do."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
