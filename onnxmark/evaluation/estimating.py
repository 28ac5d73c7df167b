"""How long an evaluation will take, told from a moment of it on this machine: a step of every kind is timed once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnxmark.attacking import attack_file
from onnxmark.attacks import GaussianNoise
from onnxmark.audit import Schemes
from onnxmark.evaluation.bench import attempted
from onnxmark.evaluation.cells import Cell, Kind, cells_of, looked_for
from onnxmark.evaluation.drawing import drawn_key
from onnxmark.evaluation.laboratory import MODEL, Laboratory, LaboratoryOf, Network
from onnxmark.evaluation.loads import USUAL, Loads, Steps
from onnxmark.evaluation.plan import Embedding, Plan
from onnxmark.evaluation.roles import roles_of
from onnxmark.marking import embed_file
from onnxmark.schemes.scheme import Reads


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan takes.

    Args:
        n_trainings: Networks trained, for any purpose.
        n_epochs: Epochs of all trainings.
        n_modifications: Networks modified.
        n_detections: Times that a key is looked for.
        seconds: Wall time, as far as can be told beforehand.
        jobs: Networks worked on at a time.
    """

    n_trainings: int
    n_epochs: int
    n_modifications: int
    n_detections: int
    seconds: float
    jobs: int


@dataclass(frozen=True, slots=True)
class Rehearsing:
    """Times the steps where the work will be done: a worker has one thread, the process that asks has all.

    Args:
        plan: The plan.
        laboratory: Makes the laboratory.
        schemes: Gives the scheme of a name.
    """

    plan: Plan
    laboratory: LaboratoryOf
    schemes: Schemes

    def carry_out(self, cell: Cell) -> dict[str, Any]:
        """Seconds that each kind of step takes, by name; whichever the cell."""
        return asdict(rehearsed(self.plan, self.laboratory(self.plan), self.schemes))


def estimated(plan: Plan, laboratory: Laboratory, seconds: Steps, jobs: int = 1) -> Estimate:
    """What a plan will take.

    Args:
        plan: The plan.
        laboratory: Where its networks are trained.
        seconds: What each kind of step takes.
        jobs: Networks worked on at a time.
    """
    found = Loads.of(plan, laboratory)
    loads = [(cell, found.load(cell)) for cell in cells_of(plan)]
    looks = [cell for cell, _ in loads if cell.kind is Kind.LOOK]
    return Estimate(
        n_trainings=round(sum(load.export for _, load in loads)),
        n_epochs=round(sum(load.batch for _, load in loads) / found.steps_an_epoch),
        n_modifications=sum(cell.change is not None for cell in looks),
        n_detections=sum(len(looked_for(plan, cell)) for cell in looks),
        seconds=sum(load @ seconds for _, load in loads) / min(jobs, _width(plan)),
        jobs=jobs,
    )


def rehearsed(plan: Plan, laboratory: Laboratory, schemes: Schemes) -> Steps:
    """Seconds that each kind of step takes here; the mean over the architectures."""
    with tempfile.TemporaryDirectory(prefix="onnxmark-") as name:
        found = [
            _of(place, Path(name) / str(place), plan, laboratory, schemes) for place in range(len(plan.architectures))
        ]
    columns = ((getattr(each, field) for each in found) for field in Steps.__dataclass_fields__)
    return Steps(*(float(np.mean(list(column))) for column in columns))


def _of(number: int, folder: Path, plan: Plan, laboratory: Laboratory, schemes: Schemes) -> Steps:
    made, rewritten = folder / "made", folder / "rewritten"
    for each in (made, rewritten):
        each.mkdir(parents=True)
    rehearsal = laboratory.rehearse(Network(plan.architecture(number), plan.seed), made)
    # The first time of anything libraries are still being loaded.
    _, rewrite = (_timed(lambda: attack_file(made / MODEL, [GaussianNoise(0.1)], rewritten / MODEL)) for _ in range(2))
    # A scheme that does not fit the network says so in the report, and is left out of the mean here.
    tried = [attempted(partial(_marking, plan, place, made / MODEL, schemes)) for place in range(len(plan.schemes))]
    return Steps(
        batch=rehearsal.batch_seconds,
        export=rehearsal.export_seconds,
        score=laboratory.score(made / MODEL).seconds,
        rewrite=rewrite,
        embed=_mean([each["embed"] for each in tried if "embed" in each], USUAL.embed),
        read=_mean([each["read"] for each in tried if "read" in each], USUAL.read),
    )


def _marking(plan: Plan, place: int, model: Path, schemes: Schemes) -> dict[str, float]:
    """Seconds that reading a scheme's key takes, and embedding it where that is in closed form."""
    entry = plan.schemes[place]
    scheme = schemes(entry.scheme)
    if scheme.reads is Reads.ANSWERS:
        return {}  # its key takes trained networks; what it asks costs less than a pass over the test images
    key = drawn_key(plan, entry, scheme, model, ("rehearsal", place), 0)
    detector, decoder = roles_of(key, plan.policy, schemes)
    read = _timed(lambda: detector.detect(model)) + _timed(lambda: decoder.decode(model))
    if entry.embedding is not Embedding.CLOSED_FORM:
        return {"read": read}
    target = model.with_name(f"{place}.onnx")
    return {"read": read, "embed": _timed(lambda: embed_file(model, key, target, schemes=schemes))}


def _mean(seconds: list[float], usual: float) -> float:
    return sum(seconds) / len(seconds) if seconds else usual


def _timed(step: Callable[[], Any]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _width(plan: Plan) -> int:
    """Cells that can be worked on at a time, where there are most."""
    return plan.networks * plan.payloads * len(plan.schemes) or 1
