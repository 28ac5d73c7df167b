"""An evaluation from a plan to its document."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from onnxmark import plugins
from onnxmark.audit import Schemes
from onnxmark.errors import JournalError, LaboratoryError
from onnxmark.evaluation.bench import Bench
from onnxmark.evaluation.cells import Cell, Kind
from onnxmark.evaluation.document import environment_of, evaluation_document
from onnxmark.evaluation.drawing import options_of
from onnxmark.evaluation.estimating import Estimate, Rehearsing, estimated
from onnxmark.evaluation.journal import open_journal
from onnxmark.evaluation.laboratory import Laboratory, LaboratoryOf
from onnxmark.evaluation.loads import Loads, Steps
from onnxmark.evaluation.plan import Plan
from onnxmark.evaluation.rooms import Room
from onnxmark.evaluation.running import Run, Tell
from onnxmark.evaluation.workers import Workers


def evaluate(
    plan: Plan,
    laboratory: LaboratoryOf,
    *,
    journal: Path | None = None,
    work: Path | None = None,
    jobs: int = 1,
    keep: bool = False,
    schemes: Schemes = plugins.scheme,
    progress: Tell | None = None,
) -> dict[str, Any]:
    """Carry out a plan, or what an earlier run has left of it.

    Worker processes are spawned: a script that calls this does so under ``if __name__ == "__main__"``.

    Args:
        plan: The plan.
        laboratory: Makes the laboratory, in this process and in every worker's; a function of a module.
        journal: File that keeps what is done; None keeps nothing.
        work: Folder of networks and keys while they are needed; by default one beside the journal.
        jobs: Networks worked on at a time, at least 1.
        keep: Leave the folder as it is at the end.
        schemes: Gives the scheme of a name; a function of a module.
        progress: Told how far the run is.

    Returns:
        The document, ``onnxmark/evaluation/v1``.

    Raises:
        JournalError: The journal cannot be used, or the folder not be written.
        LaboratoryError: The laboratory cannot train the plan's networks.
        MissingExtra: A package is not installed.
        PluginError: There is no such scheme.
        SettingError: A scheme has no such option.
    """
    here = _checked(plan, laboratory, schemes)
    around = environment_of(plan, here, jobs)
    with open_journal(journal, plan.digest, around) as book, _folder(journal, work, plan) as root:
        setup = partial(Bench.of, plan, laboratory, schemes, root)
        run = Run(plan, book, Room(root), Loads.of(plan, here), progress)
        with Workers(setup, jobs) as workers:
            outcomes = run.over(workers)
        # Where nothing was left to do, it was done on what the journal says, not here.
        document = evaluation_document(plan, here, outcomes, book.environments or [around])
        if not keep and not outcomes.failures:
            shutil.rmtree(root, ignore_errors=True)
    return document


def estimate(plan: Plan, laboratory: LaboratoryOf, *, jobs: int = 1, schemes: Schemes = plugins.scheme) -> Estimate:
    """How long :func:`evaluate` will take; arguments and errors are the same."""
    if jobs < 1:
        raise ValueError(f"at least one network is worked on at a time, not {jobs}")
    here = _checked(plan, laboratory, schemes)
    with Workers(partial(Rehearsing, plan, laboratory, schemes), 1) as workers:
        workers.start(Cell(Kind.TRAIN, 0))
        (outcome,) = workers.finished()
    if outcome.record is None:
        raise LaboratoryError(f"the rehearsal came to no end: {outcome.refusal or outcome.failure}")
    return estimated(plan, here, Steps(**outcome.record), jobs)


def _checked(plan: Plan, laboratory: LaboratoryOf, schemes: Schemes) -> Laboratory:
    """The laboratory, once every name of the plan is known to mean something: before hours of training."""
    for entry in plan.schemes:
        options_of(entry, schemes(entry.scheme))
    here = laboratory(plan)
    for architecture in plan.architectures:
        here.n_parameters(architecture)
    return here


@contextmanager
def _folder(journal: Path | None, work: Path | None, plan: Plan) -> Iterator[Path]:
    """Where networks go: a folder of the plan's own, so that plans do not meet each other's."""
    if work is None and journal is None:
        with tempfile.TemporaryDirectory(prefix="onnxmark-") as name:
            yield Path(name)
        return
    within = work if work is not None else journal.with_name(f"{journal.name}.work") if journal is not None else Path()
    root = within / plan.digest[:16]
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(f"the work folder {str(root)!r} cannot be made: {error.strerror}") from error
    yield root
    for folder in (root, within):
        # Gone where everything is done, left where something is not.
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
