"""What a worker does: carry out one cell, and say in plain values what came of it.

A record holds ``problem``, a sentence, where a cell cannot be carried out and never will be: a scheme that does not fit
a network is a result, not a failure. Only what may go another way next time (memory, disks) is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from onnxmark.audit import Schemes
from onnxmark.errors import MissingExtra, OnnxmarkError
from onnxmark.evaluation.cells import Cell, Kind, looked_for
from onnxmark.evaluation.embedding import Embedder, taken
from onnxmark.evaluation.laboratory import MODEL, LaboratoryOf
from onnxmark.evaluation.measuring import measured
from onnxmark.evaluation.modifying import Modifier
from onnxmark.evaluation.plan import Plan
from onnxmark.evaluation.roles import roles_of
from onnxmark.evaluation.rooms import Room, place
from onnxmark.keys import Key, load_key, save_key

Record = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Everything a worker works with.

    Args:
        plan: The plan.
        embedder: Makes keys and embeds marks.
        modifier: Modifies networks, and has no way to the owner's keys.
        room: Where networks are, and the owner's keys.
    """

    plan: Plan
    embedder: Embedder
    modifier: Modifier
    room: Room

    @classmethod
    def of(cls, plan: Plan, laboratory: LaboratoryOf, schemes: Schemes, root: Path) -> Bench:
        """A worker's bench.

        Raises:
            OnnxmarkError: The laboratory cannot be made.
        """
        room = Room(root)
        embedder = Embedder(plan, laboratory(plan), schemes, room.pool)
        return cls(plan, embedder, Modifier(embedder), room)

    def carry_out(self, cell: Cell) -> Record:
        """Carry out a cell whose needs are there.

        Raises:
            MissingExtra: A package is not installed.
            MemoryError, OSError: The machine is in the way, not the cell.
        """
        steps: dict[Kind, Callable[[Cell, Path], Record]] = {
            Kind.TRAIN: self._train,
            Kind.TWIN: self._twin,
            Kind.EMBED: self._embed,
            Kind.LOOK: self._look,
        }
        with self.room.bench() as folder:
            return attempted(lambda: steps[cell.kind](cell, folder))

    def _train(self, cell: Cell, folder: Path) -> Record:
        made = _folder(folder)
        spent = self.embedder.laboratory.train(self.embedder.untrained(cell.network), made)
        record = {**self._scored(made / MODEL), "injection": taken(spent)}
        place(made, self.room.subject(cell))
        return record

    def _twin(self, cell: Cell, folder: Path) -> Record:
        made, source = _folder(folder), self.room.network(cell.network)
        if cell.embedding is None:
            raise ValueError("a twin is made in some way")
        order = self.embedder.order(cell.network, cell.embedding, None, None)
        spent = self.embedder.laboratory.embed(order, self.embedder.untrained(cell.network), source, made)
        return {**self._scored(made / MODEL), "injection": taken(spent)}

    def _embed(self, cell: Cell, folder: Path) -> Record:
        made, scheme, payload = _folder(folder), cast("int", cell.scheme), cast("int", cell.payload)
        source = self.room.network(cell.network)
        others = [self.room.network(other) / MODEL for other in range(self.plan.networks) if other != cell.network]
        key = self.embedder.key(scheme, source / MODEL, (cell.network, payload), others, payload)
        spent = self.embedder.embed(cell.network, scheme, key, source, made)
        record = {**self._scored(made / MODEL), "injection": spent, "bits": key.n_bits}
        place(made, self.room.subject(cell))
        # Last of all: a key that is there belongs to a network that is there.
        _keep(key, self.room.key(cell.network, scheme, payload))
        return record

    def _look(self, cell: Cell, folder: Path) -> Record:
        made, model, change = _folder(folder), self.room.subject(cell) / MODEL, cell.changed(self.plan)
        if change is not None:
            model = self.modifier.modify(cell, change, self.room.subject(cell), made)
        keys = [(pair, self.room.key(cell.network, *pair)) for pair in looked_for(self.plan, cell)]
        return {
            **self._scored(model),
            "readings": [
                {"scheme": scheme, "payload": payload, **attempted(partial(self._read, model, key))}
                for (scheme, payload), key in keys
                if key.is_file()
            ],
        }

    def _scored(self, model: Path) -> Record:
        score = self.embedder.laboratory.score(model)
        return {"score": score.value, "inference_seconds": score.seconds}

    def _read(self, model: Path, key: Path) -> Record:
        # A key for each role, so that neither finds ready what the other has worked out.
        detector, decoder = (roles_of(_loaded(key), self.plan.policy, self.embedder.schemes) for _ in range(2))
        detected, detection = measured(lambda: detector[0].detect(model))
        decoded, decoding = measured(lambda: decoder[1].decode(model))
        costs = {"detection": asdict(detection), "decoding": asdict(decoding)}
        return {"detected": detected, **asdict(decoded), **costs}


def attempted(step: Callable[[], Record]) -> Record:
    """What a step gives, or the problem that will always be in its way.

    Raises:
        MissingExtra: A package is not installed.
        MemoryError, OSError: The machine is in the way.
    """
    try:
        return step()
    except (MissingExtra, MemoryError, OSError):
        raise
    except OnnxmarkError as error:
        return {"problem": str(error)}
    except Exception as error:  # a scheme or an attack of anybody's may raise anything
        return {"problem": f"{type(error).__name__}: {error}; this is a fault of the scheme, attack or laboratory"}


def _folder(within: Path) -> Path:
    made = within / "made"
    made.mkdir()
    return made


def _loaded(path: Path) -> Key:
    key = cast("Key", load_key(path))
    # Stretching the secret takes a tenth of a second once a process; it would be in the figures of one cell in many.
    _ = key.master
    return key


def _keep(key: Key, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    save_key(key, path)
