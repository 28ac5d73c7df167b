"""The document of an evaluation, ``onnxmark/evaluation/v1``, which reports render and others check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from onnxmark import plugins
from onnxmark.evaluation.cells import Cell, Kind
from onnxmark.evaluation.checking import broken, limits
from onnxmark.evaluation.concluding import Book, cost, guessed_rate, imperceptibility, robustness
from onnxmark.evaluation.environment import environment
from onnxmark.evaluation.laboratory import Laboratory
from onnxmark.evaluation.nnt import exchanged
from onnxmark.evaluation.plan import Plan, SchemePlan
from onnxmark.evaluation.running import Outcomes
from onnxmark.report import formats
from onnxmark.report.documents.plain import head

_OURS: Final = "onnxmark"
_AROUND: Final = ("environment", "further_environments")
_DATA_RULE: Final = 10
"""Training data for each parameter, as the standard asks."""


def environment_of(plan: Plan, laboratory: Laboratory, workers: int) -> dict[str, Any]:
    """What this process carries out a plan on, with so many networks at a time."""
    return environment(_packages(plan, laboratory), laboratory.name, workers)


def evaluation_document(
    plan: Plan, laboratory: Laboratory, outcomes: Outcomes, environments: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Everything an evaluation found.

    Args:
        plan: The plan.
        laboratory: Where its networks were trained.
        outcomes: What came of its cells.
        environments: What its cells were carried out on, at least one.
    """
    book = Book(plan, outcomes.records, is_share=laboratory.task.metric == "accuracy")
    results = {number: _results(book, number) for number in range(len(plan.schemes))}
    rows = {number: found["robustness"] for number, found in results.items() if found["problem"] is None}
    return {
        **head(formats.Kind.EVALUATION),
        "status": "partial" if outcomes.failures else "complete",
        "plan": plan_document(plan, laboratory),
        "environment": environments[0],
        "further_environments": list(environments[1:]),
        "schemes": list(results.values()),
        "nnt": exchanged(book, laboratory.task, rows),
        "limits": [*_lacking(outcomes), *limits(book, laboratory)],
    }


def reproducible(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without times, memory and machine: what is left is the same for the same plan."""
    kept = {name: value for name, value in document.items() if name not in _AROUND}
    schemes = [{name: value for name, value in scheme.items() if name != "cost"} for scheme in document["schemes"]]
    return {**kept, "schemes": schemes}


def plan_document(plan: Plan, laboratory: Laboratory) -> dict[str, Any]:
    """The plan, with what its names stand for."""
    return {
        "title": plan.title,
        "digest": plan.digest,
        "seed": plan.seed,
        "networks": plan.networks,
        "payloads": plan.payloads,
        "bits": plan.schemes[0].bits,
        "task": asdict(laboratory.task),
        "architectures": [
            {
                "name": architecture.words,
                "n_parameters": (n_parameters := laboratory.n_parameters(architecture)),
                "data_rule": {
                    "needed": _DATA_RULE * n_parameters,
                    "have": laboratory.task.n_training,
                    "met": laboratory.task.n_training >= _DATA_RULE * n_parameters,
                },
            }
            for architecture in plan.architectures
        ],
        "training": {**asdict(plan.training), **{f"fine_tuning_{k}": v for k, v in asdict(plan.fine_tuning).items()}},
        "policy": {"alpha": plan.policy.alpha, "registered": plan.policy.registered},
    }


def _packages(plan: Plan, laboratory: Laboratory) -> set[str]:
    """What the figures depend on besides onnxmark: the laboratory's distributions, and those of others' plugins."""
    named = [(plugins.LABORATORIES, plan.laboratory)]
    named += [(plugins.SCHEMES, entry.scheme) for entry in plan.schemes]
    named += [(plugins.ATTACKS, row.attack) for row in plan.modifications if row.attack is not None]
    found = (plugins.distribution(*each) for each in named)
    return {*laboratory.packages, *(name for name in found if name is not None)} - {_OURS}


def _results(book: Book, number: int) -> dict[str, Any]:
    entry, embedded = book.plan.schemes[number], book.embedded(number)
    problem = None if embedded else _why_not(book, number)
    return {
        "name": entry.name,
        "scheme": entry.scheme,
        "embedding": str(entry.embedding),
        "settings": _settings(entry),
        "bits": embedded[0]["bits"] if embedded else entry.bits,
        "problem": problem,
        "guessing": guessed_rate(book, number),
        "doubts": list(broken(book, number)),
        "imperceptibility": imperceptibility(book, number),
        "robustness": robustness(book, number) if problem is None else [],
        "cost": cost(book, number) if problem is None else None,
    }


def _why_not(book: Book, number: int) -> str | None:
    """Why a scheme has no figures: it does not apply, or it is not its turn yet."""
    obstacles = book.obstacles(number)
    if obstacles:
        return obstacles[0]
    first = Cell(Kind.TRAIN, 0)
    return book.problem(first) or "no mark of it has been embedded yet"


def _settings(entry: SchemePlan) -> dict[str, Any]:
    found: dict[str, Any] = {**dict(entry.settings), **dict(entry.means)}
    return {**found, "layers": list(entry.layers)} if entry.layers else found


def _lacking(outcomes: Outcomes) -> list[str]:
    if not outcomes.failures:
        return []
    reason = next(iter(outcomes.failures.values()))
    return [
        f"{len(outcomes.failures)} pieces of work are lacking; run the same command again to make up for them. "
        f"The first failed so: {reason}."
    ]
