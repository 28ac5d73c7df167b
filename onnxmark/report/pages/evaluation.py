"""The page of an evaluation: schemes side by side under the three evaluations of MPAI-NNW (IEEE 3304).

First what can be compared at a glance, then what was evaluated and by which rules, then the standard's own tables. A
symbol error rate stands beside the task metric of the same networks: a mark that dies with its network is no loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Fact, Facts, Headline, Notes, Page, Part, Section, Table, Tone
from onnxmark.report.pages.evaluation_costs import costs_section
from onnxmark.report.pages.evaluation_imperceptibility import imperceptibility_section
from onnxmark.report.pages.evaluation_overview import glance
from onnxmark.report.pages.evaluation_robustness import robustness_section
from onnxmark.report.pages.evaluation_words import UNMODIFIED, doubts_of, scheme_of
from onnxmark.report.pages.figures import NOTHING
from onnxmark.report.pages.phrases import LABEL, NAME, PATH, SENTENCE, colophon, many, name_of
from onnxmark.report.text import byte_size, shortened

_SETTING: Final = 160
"""Characters of the settings of a scheme."""


def evaluation_page(document: Document) -> Page:
    """The page of an evaluation document."""
    plan, schemes = document["plan"], [scheme for scheme in document["schemes"] if scheme["problem"] is None]
    return Page(
        kind="evaluation",
        title=shortened(plan["title"], PATH),
        subtitle=f"{_networks(plan)} · {shortened(plan['task']['name'], NAME)} · MPAI-NNW / IEEE 3304",
        headline=_headline(document, schemes),
        sections=(
            Section("At a glance", glance(document, schemes)),
            Section("What was evaluated", _subject(document)),
            *((imperceptibility_section(plan, schemes),) if schemes else ()),
            *((robustness_section(plan, schemes),) if schemes else ()),
            *((costs_section(document, schemes),) if schemes else ()),
            *((Section("What this does not show", (_sentences(document["limits"]),)),) if document["limits"] else ()),
            _procedure(document),
        ),
        colophon=colophon(document),
    )


def _networks(plan: Document) -> str:
    return f"{many(plan['networks'], 'network')} × {many(plan['payloads'], 'payload')}"


def _headline(document: Document, schemes: Sequence[Document]) -> Headline:
    partial, networks = document["status"] != "complete", _networks(document["plan"])
    tried = len({modified["modification"] for scheme in schemes for modified in _modified(scheme)})
    text = f"{many(len(schemes), 'scheme')} on {networks}, {many(tried, 'modification')}; {_positives(schemes)}"
    doubtful = partial or not schemes or any(doubts_of(scheme) or _false_positives(scheme) for scheme in schemes)
    word, tone = "PARTLY EVALUATED" if partial else "EVALUATED", Tone.DOUBT if doubtful else Tone.NEUTRAL
    return Headline(word, text, tone, tuple(_remarks(document, schemes)))


def _remarks(document: Document, schemes: Sequence[Document]) -> Iterator[str]:
    """What must be read with the result, the gravest first."""
    for scheme in schemes:
        yield from doubts_of(scheme)
    if document["status"] != "complete":
        yield "not everything that was planned could be done: every table says how many networks it rests on"
    left_out = len(document["schemes"]) - len(schemes)
    if left_out:
        yield f"{many(left_out, 'scheme does', 'schemes do')} not apply: see below why"
    for architecture in document["plan"]["architectures"]:
        if not architecture["data_rule"]["met"]:
            yield _violation(architecture)


def _modified(scheme: Document) -> list[Document]:
    return [entry for entry in scheme["robustness"] if entry["modification"] != UNMODIFIED]


def _false_positives(scheme: Document) -> int:
    return sum(point["false_positives"] for entry in scheme["robustness"] for point in entry["points"])


def _positives(schemes: Sequence[Document]) -> str:
    if not schemes:
        return "nothing was measured"
    found = [(scheme_of(scheme), _false_positives(scheme)) for scheme in schemes]
    named = ", ".join(f"{name}: {count:,}" for name, count in found if count)
    return f"false positives ({named})" if named else "no false positive at any point"


def _violation(architecture: Document) -> str:
    rule, name = architecture["data_rule"], name_of(architecture["name"])
    return (
        f"{name}: the standard asks for ten times as many examples as parameters, {rule['needed']:,}; the training set "
        f"has {rule['have']:,}, which violates the rule"
    )


_SCHEMES: Final = (
    Column("name here"),
    Column("scheme"),
    Column("embedding"),
    Column("payload", numeric=True),
    Column("settings"),
)


def _subject(document: Document) -> tuple[Part, ...]:
    plan = document["plan"]
    task = plan["task"]
    data = f"{task['n_training']:,} training and {task['n_test']:,} test examples, {task['n_classes']:,} classes"
    rows = (
        Fact("task", shortened(task["name"], NAME), data),
        Fact("task metric", shortened(task["metric"], NAME), "on the test examples"),
        Fact("networks", _networks(plan), "a network is marked once with each payload, and once not at all"),
        *(_architecture(architecture) for architecture in plan["architectures"]),
        Fact("training", _settings(plan["training"]) or NOTHING),
        Fact("false-positive rate", f"{plan['policy']['alpha']:g}", "that the detector allows itself"),
    )
    return (Facts(rows), Table("Schemes", _SCHEMES, tuple(map(_scheme, document["schemes"]))))


def _architecture(architecture: Document) -> Fact:
    tone = Tone.NEUTRAL if architecture["data_rule"]["met"] else Tone.DOUBT
    size = f"{name_of(architecture['name'])}, {architecture['n_parameters']:,} parameters"
    rule = architecture["data_rule"]
    words = "met" if rule["met"] else "violated"
    return Fact("architecture", size, f"ten times as much data: {words}, {rule['have']:,} of {rule['needed']:,}", tone)


def _scheme(scheme: Document) -> tuple[Cell, ...]:
    return (
        Cell(scheme_of(scheme)),
        Cell(shortened(scheme["scheme"], LABEL)),
        Cell(shortened(scheme["embedding"], LABEL)),
        Cell(many(scheme["bits"], "bit")),
        Cell(_settings(scheme["settings"]) or NOTHING),
    )


def _settings(settings: Document) -> str:
    pairs = (f"{shortened(name, LABEL)} = {_value(value)}" for name, value in settings.items())
    return shortened(", ".join(pairs), _SETTING)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return shortened(" ".join(map(_value, value)), LABEL)
    return shortened(value if isinstance(value, str) else json.dumps(value), LABEL)


def _sentences(sentences: Sequence[str]) -> Notes:
    return Notes(tuple(shortened(sentence, SENTENCE) for sentence in sentences))


def _procedure(document: Document) -> Section:
    """What another party needs to come to the same tables."""
    plan, around, parts = document["plan"], document["environment"], document["nnt"]
    exchanged = ", ".join(f"{len(parts[name]):,} {name.replace('_', ' ')}" for name in parts)
    rows = (
        Fact("plan", f"sha256 {shortened(plan['digest'], 64)}", literal=True),
        Fact("seed", str(plan["seed"]), "the same plan and seed give the same tables, but for times and memory"),
        Fact("keys", "registered" if plan["policy"]["registered"] else "not registered"),
        Fact("machine", _machine(around)),
        Fact("system", shortened(around["platform"], NAME)),
        Fact("run by", _workers(around), f"laboratory: {shortened(around['laboratory'], LABEL)}"),
        Fact("software", _software(around)),
        Fact("packages", _packages(around) or NOTHING),
        *(Fact("went on", _conditions(other)) for other in document["further_environments"]),
        Fact("parts for NNT", exchanged, "in the JSON report"),
    )
    return Section("How it was done", (Facts(rows),), detail=True)


def _machine(environment: Document) -> str:
    memory = "" if environment["memory_bytes"] is None else f", {byte_size(environment['memory_bytes'])} of memory"
    return f"{shortened(environment['processor'], NAME)}, {many(environment['cores'], 'core')}{memory}"


def _workers(environment: Document) -> str:
    return f"{many(environment['workers'], 'worker')}, {many(environment['threads_per_worker'], 'thread')} each"


def _software(environment: Document) -> str:
    return shortened(f"Python {environment['python']}, onnxmark {environment['onnxmark']}", NAME)


def _packages(environment: Document) -> str:
    versions = environment["packages"].items()
    return shortened(", ".join(f"{shortened(name, 40)} {_value(version)}" for name, version in versions), SENTENCE)


def _conditions(environment: Document) -> str:
    """An environment in a line."""
    parts = (_machine, _workers, _software, _packages)
    return " · ".join(text for part in parts if (text := part(environment)))
