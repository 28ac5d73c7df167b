"""The pages of ``onnxmark attack``: what an attack on a file did, and the attacks there are."""

from __future__ import annotations

from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Fact, Facts, Headline, Notes, Page, Part, Section, Table, Tone
from onnxmark.report.pages.phrases import (
    NAME,
    PATH,
    SENTENCE,
    colophon,
    counted,
    fidelity_sentences,
    name_of,
    shape_of,
)
from onnxmark.report.text import byte_size, shortened

_UNMEASURED: Final = "not measured; give --calibration inputs.npz to measure what the attack costs"
_LAYERS: Final = (
    Column("layer"),
    Column("shape"),
    Column("weights moved", numeric=True),
    Column("zeros", numeric=True),
    Column("problem"),
)
_ATTACKS: Final = (
    Column("option"),
    Column("what it does"),
    Column("its value, then FIELD=VALUE"),
    Column("on", detail=True),
    Column("random", detail=True),
    Column("needs"),
    Column("a full sweep tries", detail=True),
)
_KINDS: Final = {"weights": "weights", "model": "files", "both": "weights and files"}


def attack_page(document: Document) -> Page:
    """The page of an attack document."""
    problems = [layer for step in document["steps"] for layer in step["layers"] if layer["problem"] is not None]
    left = f"; {counted(len(problems), 'layer')} left alone" if problems else ""
    steps = " then ".join(shortened(step["label"], 60) for step in document["steps"][:8])
    return Page(
        kind="attack",
        title=shortened(document["output"], PATH),
        subtitle=f"{byte_size(document['bytes'])} · from {shortened(document['source'], PATH)}",
        headline=Headline("ATTACKED", f"{steps or 'nothing was done'}{left}", Tone.DOUBT if left else Tone.NEUTRAL),
        sections=(
            *(_step(number, step) for number, step in enumerate(document["steps"], start=1)),
            Section("What it did to the model", (_cost(document),)),
            Section("How it was done", (_recipe(document),), detail=True),
        ),
        colophon=colophon(document),
    )


def _step(number: int, step: Document) -> Section:
    table = Table("Layers attacked", _LAYERS, tuple(_layer(layer) for layer in step["layers"]))
    parts: tuple[Part, ...] = (table,) if step["layers"] else ()
    if step["notes"]:
        parts += (Notes(tuple(shortened(note, SENTENCE) for note in step["notes"])),)
    return Section(f"{number}. {shortened(step['label'], NAME)}", parts)


def _layer(layer: Document) -> tuple[Cell, ...]:
    moved, problem = layer["relative_change"], layer["problem"] or ""
    return (
        Cell(name_of(layer["name"]), literal=True),
        Cell(shape_of(layer["shape"])),
        Cell("–" if moved is None else f"{moved:.2%}"),
        Cell("–" if layer["sparsity"] is None else f"{layer['sparsity']:.0%}"),
        Cell(shortened(problem, SENTENCE), Tone.DOUBT if problem else Tone.NEUTRAL),
    )


def _cost(document: Document) -> Facts:
    fidelity, coding = document["fidelity"], document["coding"]
    lines = [_UNMEASURED] if fidelity is None else fidelity_sentences(fidelity)
    rows = [Fact("outputs", line) for line in lines]
    if coding is not None:
        kilobytes = byte_size(-(-coding["coded_bits"] // 8))
        rows.append(Fact("coded size", kilobytes, f"{coding['ratio']:.1f} times smaller than float32"))
    return Facts(tuple(rows))


def _recipe(document: Document) -> Facts:
    written = "not written" if document["anonymous"] else "written"
    return Facts(
        (
            *(Fact("recipe", shortened(recipe, PATH), literal=True) for recipe in document["recipe"]),
            Fact("seed", str(document["seed"])),
            Fact("recipe in the copy's metadata", written),
        )
    )


def attacks_page(document: Document) -> Page:
    """The page of a list of attacks."""
    attacks = document["attacks"]
    broken = [attack for attack in attacks if attack["problem"] is not None]
    problems = tuple(f"{name_of(attack['name'])}: {shortened(attack['problem'], SENTENCE)}" for attack in broken)
    usable = tuple(_attack(attack) for attack in attacks if attack["problem"] is None)
    parts: tuple[Part, ...] = (Table("Attacks", _ATTACKS, usable),)
    return Page(
        kind="attacks",
        title=counted(len(attacks), "attack"),
        subtitle="for onnxmark attack and audit --attacks",
        headline=Headline(
            "ATTACKS",
            f"{len(usable)} can be used" + (f", {len(broken)} cannot be loaded" if broken else ""),
            Tone.DOUBT if broken else Tone.NEUTRAL,
        ),
        sections=(
            Section("What there is", parts),
            *((Section("What cannot be loaded", (Notes(problems),)),) if problems else ()),
        ),
        colophon=colophon(document),
    )


def _attack(attack: Document) -> tuple[Cell, ...]:
    fields = "; ".join(f"{field['name']}: {field['type']}{_default(field)}" for field in attack["fields"])
    return (
        Cell(f"--{name_of(attack['name'])}", literal=True),
        Cell(shortened(attack["summary"], SENTENCE)),
        Cell(shortened(fields, SENTENCE) or "–"),
        Cell(_KINDS.get(attack["kind"], str(attack["kind"]))),
        Cell("yes" if attack["random"] else "no"),
        Cell(shortened(", ".join(attack["needs"]), NAME) or "–"),
        Cell(shortened(", ".join(map(str, attack["strengths"])), NAME) or "–"),
    )


def _default(field: Document) -> str:
    return "" if field["default"] is None else f" = {field['default']}"
