"""What runs the tasks of a scan: anything that promises what ``concurrent.futures.Executor`` does.

The engines differ only in where cells are kept: in this process's threads, in the workers of a Dask cluster, or in
those of a Ray cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from onnxmark.registry.engines.isolation import message
from onnxmark.registry.engines.worker import Task


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Engine:
    """Something that carries out tasks in cells.

    Args:
        executor: Runs functions somewhere else.
        ask: From a message to an answer, by a cell where it is called; it travels to there.
        capacity: Tasks that run at once.
        alive: Whether it can still run any.
    """

    executor: Executor
    ask: Callable[[bytes], str]
    capacity: int
    alive: Callable[[], bool] = _always

    def submit(self, task: Task, locations: Sequence[str]) -> Future[str]:
        """Start a task; the future gives what :func:`~onnxmark.registry.engines.isolation.parse` reads."""
        return self.executor.submit(self.ask, message(task, locations))
