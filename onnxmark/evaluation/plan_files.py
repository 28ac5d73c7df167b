"""Plans as people write them: TOML in which every key has one meaning and a misspelt one is an error, not a default."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from onnxmark.errors import PlanError
from onnxmark.evaluation.modifications import ROWS, STANDARD, Modification
from onnxmark.evaluation.plan import Architecture, Embedding, Plan, SchemePlan, TaskPlan, Training
from onnxmark.evaluation.tables import Table
from onnxmark.verdict import DEFAULT_ALPHA, Policy

_MAX_BYTES: Final = 1 << 20
_TRAINING: Final = Training(epochs=4, batch_size=64, rate=0.05)
_BITS: Final = 64

_Made = TypeVar("_Made")


def load_plan(path: Path | str) -> Plan:
    """The plan in a file.

    Raises:
        PlanError: It cannot be read, is no TOML, or makes no sense.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise PlanError(f"plan {str(path)!r} is larger than 1 MiB; give the TOML file of a plan")
        return parse_plan(data.decode(), f"plan {str(path)!r}")
    except OSError as error:
        raise PlanError(f"plan {str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"plan {str(path)!r} is not text in UTF-8; give the TOML file of a plan") from error


def parse_plan(text: str, where: str = "plan") -> Plan:
    """The plan that a text describes.

    Args:
        text: TOML.
        where: What messages call it.

    Raises:
        PlanError: It is no TOML, or makes no sense; says which key of which table.
    """
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PlanError(f"{where} is not TOML: {error}") from error
    table = Table(values, where)
    training = _training(table.table("training"), _TRAINING)
    slower = Training(max(1, training.epochs // 4), training.batch_size, training.rate / 5)
    bits = table.count("bits", _BITS)

    def made() -> Plan:
        return Plan(
            title=table.take("title", str, "Evaluation of watermarks"),
            seed=table.count("seed", 0, least=0),
            networks=table.count("networks"),
            payloads=table.count("payloads"),
            task=_task(table.table("task")),
            architectures=tuple(_architecture(each) for each in _some(table, "architectures")),
            training=training,
            fine_tuning=_training(table.table("fine_tuning"), slower),
            modifications=_modifications(table.tables("modifications"), training.epochs),
            schemes=tuple(_scheme(each, bits) for each in _some(table, "schemes")),
            policy=_policy(table.table("policy")),
            laboratory=table.take("laboratory", str, "torch"),
        )

    plan = _made(where, made)
    table.end()
    return plan


def _some(table: Table, name: str) -> list[Table]:
    found = table.tables(name)
    if not found:
        raise PlanError(f"{table.where}: has no [[{name}]]; name one at least")
    return found


def _task(table: Table) -> TaskPlan:
    task = TaskPlan(
        name=table.take("name", str),
        path=table.take("path", str, None),
        n_training=_count_or_all(table, "n_training"),
        n_test=_count_or_all(table, "n_test"),
        n_pool=table.count("n_pool", 0, least=0),
    )
    table.end()
    return task


def _count_or_all(table: Table, name: str) -> int | None:
    """A number of images; 0, the default, is all."""
    return table.count(name, 0, least=0) or None


def _architecture(table: Table) -> Architecture:
    return Architecture(table.take("name", str), table.rest())


def _training(table: Table, usual: Training) -> Training:
    epochs, batch_size = table.count("epochs", usual.epochs), table.count("batch_size", usual.batch_size)
    rate = table.take("rate", float, usual.rate)
    table.end()
    return _made(table.where, lambda: Training(epochs, batch_size, rate))


def _policy(table: Table) -> Policy:
    alpha, registered = table.take("alpha", float, DEFAULT_ALPHA), table.take("registered", bool, False)
    table.end()
    return _made(table.where, lambda: Policy(alpha, registered))


def _scheme(table: Table, bits: int) -> SchemePlan:
    scheme = table.take("scheme", str)
    found = SchemePlan(
        name=table.take("name", str, scheme),
        scheme=scheme,
        embedding=_embedding(table),
        bits=table.count("bits", bits),
        layers=table.texts("layers"),
        settings=table.settings("settings"),
        means=table.settings("means"),
    )
    table.end()
    return found


def _embedding(table: Table) -> Embedding:
    text = table.take("embedding", str, str(Embedding.CLOSED_FORM))
    if text not in tuple(Embedding):
        raise PlanError(f"{table.where}: 'embedding' must be one of {', '.join(Embedding)}, found {text!r}")
    return Embedding(text)


def _modifications(tables: Sequence[Table], epochs: int) -> tuple[Modification, ...]:
    """What the plan lists, or the whole table of the standard where it lists nothing."""
    found = [_modification(table) for table in tables] if tables else STANDARD
    return tuple(each.counted(epochs) for each in found)


def _modification(table: Table) -> Modification:
    """A row of the standard's table with what the plan says differently, or one of the plan's own."""
    name = table.take("name", str)
    known = {each.name: each for each in ROWS}
    attack = table.take("attack", str, None)
    if name not in known and attack is None:
        raise PlanError(
            f"{table.where}: {name!r} is none of {', '.join(known)}; give the 'attack' on files that carries it out"
        )
    row = known.get(name) or Modification(None, name, name, "", "", (1,), attack)
    if name in known and attack is not None and row.attack is None:
        raise PlanError(f"{table.where}: {name!r} trains networks and takes no 'attack'; call it something else")
    values = table.numbers("values")
    if name not in known and not values:
        raise PlanError(f"{table.where}: 'values' is missing; give a list of numbers")
    changed = replace(
        row,
        id=table.take("id", int, row.id),
        words=table.take("words", str, row.words),
        parameter=table.take("parameter", str, row.parameter),
        unit=table.take("unit", str, row.unit),
        attack=attack or row.attack,
        divisor=table.count("divisor", row.divisor),
        values=values or row.values,
        # A plan that lists epochs means epochs.
        of_epochs=row.of_epochs and not values,
        settings=table.settings("settings"),
    )
    table.end()
    return changed


def _made(where: str, make: Callable[[], _Made]) -> _Made:
    try:
        return make()
    except ValueError as error:
        raise PlanError(f"{where}: {error}") from error
