"""Processes that carry out cells, each with a bench of its own; one that dies costs the cell it had.

They are spawned and compute with one thread each: what runs beside a training must not change what it computes, and two
trainings with all threads each are slower than one after the other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Protocol, Self

from onnxmark.errors import OnnxmarkError
from onnxmark.evaluation.cells import Cell

_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PATIENCE: Final = 5.0
"""Seconds that a worker has to end by itself."""


class Carrying(Protocol):
    """What a worker makes for itself, once."""

    def carry_out(self, cell: Cell) -> dict[str, Any]:
        """Carry out a cell and say what came of it."""
        ...


Setup = Callable[[], Carrying]
"""Makes what carries out cells, in the worker; it is pickled on the way there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cell.

    Args:
        cell: The cell.
        record: What was carried out; None where it was not.
        failure: Why not, where it may go another way next time.
        refusal: Why not, where no cell ever will be.
        seconds: What it took; None where that is not known.
    """

    cell: Cell
    record: dict[str, Any] | None = None
    failure: str | None = None
    refusal: str | None = None
    seconds: float | None = None


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    line: Connection
    cell: Cell | None = None


class Workers:
    """Some workers, started when there is work, ended when the block is left, whatever they are doing.

    Args:
        setup: See :data:`Setup`.
        count: How many, at least 1.
    """

    def __init__(self, setup: Setup, count: int) -> None:
        if count < 1:
            raise ValueError(f"an evaluation takes at least one worker, not {count}")
        self.count = count
        self._setup = setup
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            if worker.cell is not None:
                worker.process.kill()
            # An idle worker goes when its line is closed, and cleans up behind itself.
            worker.line.close()
        for worker in self._workers:
            worker.process.join(_PATIENCE)
            worker.process.kill()
            worker.process.join()
        self._workers = []

    @property
    def n_busy(self) -> int:
        """Workers that have a cell."""
        return sum(worker.cell is not None for worker in self._workers)

    @property
    def has_room(self) -> bool:
        """Whether another cell can be started."""
        return self.n_busy < self.count

    def start(self, cell: Cell) -> None:
        """Give a cell to an idle worker."""
        worker = next((worker for worker in self._workers if worker.cell is None), None) or self._hired()
        worker.cell = cell
        with suppress(OSError):  # one that has died is found when it is waited for
            worker.line.send(cell)

    def finished(self) -> list[Outcome]:
        """Wait for some cell, and say what came of those that are done."""
        busy = {worker.line: worker for worker in self._workers if worker.cell is not None}
        return [self._outcome(busy[line]) for line in wait(busy) if isinstance(line, Connection)]

    def _outcome(self, worker: _Worker) -> Outcome:
        cell, worker.cell = worker.cell, None
        assert cell is not None
        try:
            kind, answer, seconds = worker.line.recv()
            return Outcome(cell, **{kind: answer}, seconds=seconds)
        except (EOFError, OSError):
            self._workers.remove(worker)
            worker.process.join(_PATIENCE)
            worker.line.close()
            return Outcome(cell, failure=f"its process died (exit {worker.process.exitcode})")

    def _hired(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._setup), daemon=True, name="onnxmark-evaluation")
        with _one_thread_each():
            process.start()
        # The worker holds the other end alone, so that its death closes the line.
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker


def _serve(line: Connection, setup: Setup) -> None:
    """The life of a worker."""
    # An interrupt is for the coordinator, which then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with line, suppress(EOFError, OSError):
        carrying: Carrying | None = None
        while True:
            cell = line.recv()
            started = time.monotonic()
            try:
                carrying = carrying or setup()
                started = time.monotonic()
                answer: tuple[str, Any] = ("record", carrying.carry_out(cell))
            except OnnxmarkError as error:
                answer = ("refusal", str(error))
            except (MemoryError, OSError) as error:
                answer = ("failure", f"{type(error).__name__}: {error}")
            line.send((*answer, time.monotonic() - started))


def _die_with_parent() -> None:
    """Wait, beside the work, for the parent's end: a training would outlive it by hours."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Libraries read these variables when they are loaded, in the worker; ours are put back."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
