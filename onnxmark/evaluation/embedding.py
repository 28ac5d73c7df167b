"""What the owner of a network does, and a thief after him: make a key for it, and embed its mark into a copy.

In closed form any scheme that reads weights or widths does it itself, a third party's included; every other way is the
laboratory's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from onnxmark.audit import Schemes
from onnxmark.errors import LaboratoryError, OnnxmarkError
from onnxmark.evaluation.cells import TWINNED
from onnxmark.evaluation.drawing import drawn_key, seed_of
from onnxmark.evaluation.laboratory import MODEL, Laboratory, Network, Order, Spent
from onnxmark.evaluation.measuring import measured
from onnxmark.evaluation.plan import Embedding, Plan, SchemePlan, as_table
from onnxmark.keys import Key
from onnxmark.marking import embed_file
from onnxmark.schemes.scheme import Reads

UNTRAINABLE: Final = "untrainable.txt"
"""Says, beside a file that was changed without the laboratory, why its network cannot be trained on."""
_MARGIN: Final = "margin"


@dataclass(frozen=True, slots=True, eq=False)
class Embedder:
    """Makes keys and embeds marks, for the owner and for a thief; keeps no key of either.

    Args:
        plan: The plan.
        laboratory: Trains.
        schemes: Gives the scheme of a name.
        pool: File of the images kept apart, written when it is first asked for.
    """

    plan: Plan
    laboratory: Laboratory
    schemes: Schemes
    pool: Path

    def untrained(self, number: int) -> Network:
        """A network before its training."""
        return Network(self.plan.architecture(number), seed_of(self.plan, "network", number))

    def key(
        self,
        scheme: int,
        model: Path,
        names: tuple[object, ...],
        references: Sequence[Path],
        payload: int | None = None,
    ) -> Key:
        """A key for a network.

        Args:
            scheme: Number of the scheme.
            model: File of the network, as it is before it is marked.
            names: What the key is called; other names give other keys.
            references: Files of networks that a scheme which asks may compare with.
            payload: Number of the payload; None for a payload of its own.

        Raises:
            OnnxmarkError: The network does not take it.
        """
        entry = self.plan.schemes[scheme]
        found = self.schemes(entry.scheme)
        asking = (self._written_pool(), references) if found.reads is Reads.ANSWERS else None
        return drawn_key(self.plan, entry, found, model, (scheme, *names), payload, asking)

    def order(self, number: int, embedding: Embedding, entry: SchemePlan | None, key: Key | None) -> Order:
        """A training with a mark, or the same without.

        Its seed does not depend on the mark: what is compared sees the same images in the same order.
        """
        means = () if entry is None else entry.means
        if embedding in TWINNED:
            shares = self.plan.fine_tuning if embedding is Embedding.FINE_TUNING else self.plan.training
            return Order(embedding, key, shares, means, seed_of(self.plan, embedding, number))
        return Order(embedding, key, self.plan.training, means, self.untrained(number).seed)

    def embed(self, number: int, scheme: int, key: Key, source: Path, folder: Path) -> dict[str, Any]:
        """Embed the owner's mark; the folder then holds the marked network.

        Args:
            number: Of the network.
            scheme: Number of the scheme.
            key: The owner's.
            source: Folder of the finished, unmarked network.
            folder: Empty.

        Returns:
            What it took, as in :class:`~onnxmark.evaluation.laboratory.Spent`; epochs and batches are None in closed
            form.

        Raises:
            OnnxmarkError: It cannot be embedded.
        """
        entry = self.plan.schemes[scheme]
        if entry.embedding is Embedding.CLOSED_FORM:
            return self._in_closed_form(entry, key, source, folder)
        order = self.order(number, entry.embedding, entry, key)
        return taken(self.laboratory.embed(order, self.untrained(number), source, folder))

    def overwrite(self, number: int, scheme: int, key: Key, stolen: Path, folder: Path, seed: int) -> None:
        """Embed a thief's mark: in closed form where the owner does so, else by fine-tuning.

        Raises:
            OnnxmarkError: It cannot be embedded.
        """
        entry = self.plan.schemes[scheme]
        if entry.embedding is Embedding.CLOSED_FORM:
            self._in_closed_form(entry, key, stolen, folder)
            return
        order = Order(Embedding.FINE_TUNING, key, self.plan.fine_tuning, entry.means, seed)
        self.laboratory.embed(order, self.untrained(number), stolen, folder)

    def _in_closed_form(self, entry: SchemePlan, key: Key, source: Path, folder: Path) -> dict[str, Any]:
        means = as_table(entry.means)
        if unknown := sorted(means.keys() - {_MARGIN}):
            raise LaboratoryError(
                f"embedding in closed form has a 'margin' and no {unknown[0]!r}; take it out of 'means'"
            )
        margin = means.get(_MARGIN)
        _, footprint = measured(
            lambda: embed_file(
                source / MODEL,
                key,
                folder / MODEL,
                margin=None if margin is None else float(margin),
                schemes=self.schemes,
            )
        )
        try:
            self.laboratory.adopt(source, folder)
        except OnnxmarkError as error:
            (folder / UNTRAINABLE).write_text(str(error))
        return {"epochs": None, "batches": None, **_footprint(footprint.seconds, footprint.memory_bytes)}

    def _written_pool(self) -> Path:
        if not self.pool.is_file():
            with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=self.pool.parent) as bench:
                made = Path(bench) / self.pool.name
                self.laboratory.write_pool(made)
                made.replace(self.pool)
        return self.pool


def taken(spent: Spent) -> dict[str, Any]:
    """What a training took, as records keep it."""
    counts = {"epochs": spent.epochs, "batches": spent.batches}
    return {**counts, **_footprint(spent.seconds, spent.memory_bytes)}


def _footprint(seconds: float, memory_bytes: int) -> dict[str, Any]:
    return {"seconds": seconds, "memory_bytes": memory_bytes}
