"""An evaluation as cells, each of which can be worked on alone once those that it needs are done.

A cell is a training, an embedding, or a network looked at: small enough that an interruption costs minutes, and named
so that a journal tells it from all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from onnxmark.evaluation.modifications import OVERWRITING, Modification, Value
from onnxmark.evaluation.plan import Embedding, Plan, SchemePlan


class Kind(StrEnum):
    """What is done in a cell."""

    TRAIN = "train"
    """An unmarked network is trained."""
    TWIN = "twin"
    """An unmarked network is made as a marked one is, from a finished one: what a mark's cost is compared with."""
    EMBED = "embed"
    """A mark is embedded."""
    LOOK = "look"
    """A network is perhaps modified, and keys are looked for in it."""


@dataclass(frozen=True, slots=True)
class Change:
    """A modification at one value of its parameter.

    Args:
        modification: The row of the table.
        value: The value.
    """

    modification: Modification
    value: Value


@dataclass(frozen=True, slots=True)
class Cell:
    """One piece of work.

    Args:
        kind: What is done.
        network: Number of the network, from 0.
        scheme: Number of the scheme in the plan; None for what all schemes share.
        payload: Number of the payload; None for an unmarked network.
        embedding: How a twin is made.
        change: Numbers of the modification and of the value in its grid; None for a network as it is.
    """

    kind: Kind
    network: int
    scheme: int | None = None
    payload: int | None = None
    embedding: Embedding | None = None
    change: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """Its name in journals, and where its randomness comes from."""
        parts = (self.kind, self.network, self.scheme, self.payload, self.embedding, *(self.change or ()))
        return "/".join("-" if part is None else str(part) for part in parts)

    def words(self, plan: Plan) -> str:
        """What is done, for people."""
        whose = f"network {self.network + 1}"
        if self.kind is Kind.TRAIN:
            return f"training {whose}"
        if self.kind is Kind.TWIN:
            return f"unmarked {self.embedding} of {whose}"
        by = "" if self.scheme is None else f", {plan.schemes[self.scheme].name}"
        by += "" if self.payload is None else f", payload {self.payload + 1}"
        if self.kind is Kind.EMBED:
            return f"marking {whose}{by}"
        change = self.changed(plan)
        what = "reading" if change is None else f"{change.modification.words} {change.value:g}:"
        return f"{what} {whose}{by}"

    def changed(self, plan: Plan) -> Change | None:
        """The modification that it is about."""
        if self.change is None:
            return None
        row, place = self.change
        modification = plan.modifications[row]
        return Change(modification, modification.values[place])


TWINNED: Final = (Embedding.FINE_TUNING, Embedding.DISTILLING)
"""Ways to embed after which a network differs from the finished one without any mark, too."""


def cells_of(plan: Plan) -> tuple[Cell, ...]:
    """All cells of a plan, each after those it needs."""
    return (*_trainings(plan), *_embeddings(plan), *_looks(plan))


def needs(plan: Plan, cell: Cell) -> tuple[Cell, ...]:
    """The cells whose networks or keys a cell works with."""
    if cell.kind is Kind.TRAIN:
        return ()
    own = Cell(Kind.TRAIN, cell.network)
    if cell.kind is Kind.TWIN:
        return (own,)
    if cell.kind is Kind.EMBED:
        # Schemes that ask questions compare with networks other than the one they mark.
        return tuple(Cell(Kind.TRAIN, network) for network in range(plan.networks))
    if cell.payload is not None:
        return (Cell(Kind.EMBED, cell.network, cell.scheme, cell.payload),)
    return (own, *(Cell(Kind.EMBED, cell.network, *marked) for marked in looked_for(plan, cell)))


def looked_for(plan: Plan, cell: Cell) -> tuple[tuple[int, int], ...]:
    """The keys that are looked for in a network, by scheme and payload: its own, or all that were made for it."""
    if cell.payload is not None and cell.scheme is not None:
        return ((cell.scheme, cell.payload),)
    schemes = range(len(plan.schemes)) if cell.scheme is None else (cell.scheme,)
    return tuple((scheme, payload) for scheme in schemes for payload in range(plan.payloads))


def changes(plan: Plan) -> Iterator[tuple[int, int] | None]:
    """Every modification at every value, by number, after the networks as they are."""
    yield None
    for row, modification in enumerate(plan.modifications):
        for place in range(len(modification.values)):
            yield row, place


def unmarked_look(plan: Plan, network: int, scheme: int, change: tuple[int, int] | None) -> Cell:
    """The cell in which a scheme's keys are looked for in an unmarked network."""
    return Cell(Kind.LOOK, network, scheme if _is_own(plan, change) else None, change=change)


def twin_of(scheme: SchemePlan, network: int) -> Cell:
    """The unmarked network that a scheme's marked ones are compared with."""
    if scheme.embedding in TWINNED:
        return Cell(Kind.TWIN, network, embedding=scheme.embedding)
    return Cell(Kind.TRAIN, network)


def _trainings(plan: Plan) -> Iterator[Cell]:
    for network in range(plan.networks):
        yield Cell(Kind.TRAIN, network)
    used = {scheme.embedding for scheme in plan.schemes}
    for embedding in TWINNED:
        for network in range(plan.networks if embedding in used else 0):
            yield Cell(Kind.TWIN, network, embedding=embedding)


def _embeddings(plan: Plan) -> Iterator[Cell]:
    for network in range(plan.networks):
        for scheme in range(len(plan.schemes)):
            for payload in range(plan.payloads):
                yield Cell(Kind.EMBED, network, scheme, payload)


def _looks(plan: Plan) -> Iterator[Cell]:
    schemes = range(len(plan.schemes))
    for change in changes(plan):
        for network in range(plan.networks):
            yield from dict.fromkeys(unmarked_look(plan, network, scheme, change) for scheme in schemes)
            for scheme in schemes:
                for payload in range(plan.payloads):
                    yield Cell(Kind.LOOK, network, scheme, payload, change=change)


def _is_own(plan: Plan, change: tuple[int, int] | None) -> bool:
    """Whether a modification does something else for each scheme: a thief overwrites with the owner's."""
    return change is not None and plan.modifications[change[0]].name == OVERWRITING
