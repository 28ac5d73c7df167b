"""Cells: worker processes in which a model may crash, hang or swallow memory without harming any other.

A pool of the standard library breaks as a whole when one of its processes dies, and loses all that was waiting. Here
each process serves one chunk at a time, and its death is an answer like any other. Clusters use cells, too, inside
their own workers, so that what a model can do is the same everywhere.
"""

from __future__ import annotations

import atexit
import json
import pickle
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from onnxmark.errors import EngineError
from onnxmark.registry.engines.cell import Cell, Limits
from onnxmark.registry.engines.worker import Task

_START_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a chunk.

    Args:
        results: One for each model, in order; None where there are none.
        reason: Why there are none.
        certain: The chunk is to blame: another try would end in the same way.
    """

    results: tuple[dict[str, Any], ...] | None = None
    reason: str = ""
    certain: bool = True


def message(task: Task, locations: Sequence[str]) -> bytes:
    """A task as it travels to a worker."""
    return pickle.dumps((task, tuple(locations)))


def parse(text: str) -> Reply:
    """What a cell answered.

    Raises:
        EngineError: The task says that no chunk will ever have results.
    """
    try:
        answer = json.loads(text)
        if "refused" in answer:
            raise EngineError(f"the scan cannot go on: {answer['refused']}")
        if "results" in answer:
            return Reply(tuple(dict(result) for result in answer["results"]))
        return Reply(None, str(answer["failed"]), bool(answer.get("certain", True)))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        return Reply(None, f"worker-failed(answer cannot be read: {type(error).__name__})")


class Cells:
    """As many cells as are needed at once, kept for the next chunk.

    Args:
        limits: What each may take.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._idle: list[Cell] = []
        self._busy: set[Cell] = set()
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, message: bytes) -> str:
        """Have a message carried out by some cell; callable from many threads.

        Raises:
            EngineError: No worker starts.
        """
        cell = self._taken()
        try:
            return cell.ask(message)
        finally:
            with self._lock:
                self._busy.discard(cell)
                if not cell.closed:
                    self._idle.append(cell)

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        with self._lock:
            self._closed = True
            for cell in self._busy:
                cell.kill()
            while self._idle:
                self._idle.pop().close()

    def _taken(self) -> Cell:
        cell = self._kept() or _cell(self._limits)
        with self._lock:
            self._busy.add(cell)
            if self._closed:
                cell.kill()
        return cell

    def _kept(self) -> Cell | None:
        """An idle cell that is still there."""
        with self._lock:
            while self._idle:
                cell = self._idle.pop()
                if not cell.gone:
                    return cell
                cell.close()
        return None


def _cell(limits: Limits) -> Cell:
    """A new cell; one whose process is killed before it has begun has not shown that none can start."""
    for _ in range(_START_TRIES - 1):
        with suppress(EngineError):
            return Cell(limits)
    return Cell(limits)


@lru_cache
def _cells(limits: Limits) -> Cells:
    cells = Cells(limits)
    atexit.register(cells.close)
    return cells


def ask_isolated(limits: Limits, message: bytes) -> str:
    """Have a message carried out by a cell of this process; what clusters call in their workers."""
    return _cells(limits).ask(message)
