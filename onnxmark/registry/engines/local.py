"""The engine of one machine: as many threads as wanted, each waiting for a cell of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from onnxmark.registry.engines.cell import Limits
from onnxmark.registry.engines.engine import Engine
from onnxmark.registry.engines.isolation import Cells


@contextmanager
def on_this_machine(address: str, jobs: int, limits: Limits) -> Iterator[Engine]:
    """Workers on this machine, ended when the block is left, whatever they are doing.

    Args:
        address: Nothing.
        jobs: Workers.
        limits: What each may take.
    """
    cells = Cells(limits)
    executor = ThreadPoolExecutor(jobs, thread_name_prefix="onnxmark-engine")
    try:
        yield Engine(executor, cells.ask, jobs)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        # The threads wait for their cells, which may never answer.
        cells.close()
        executor.shutdown()
