"""The engine of a Dask cluster, which must see the models and the ring under the paths that the scan sees them by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

from onnxmark.errors import EngineError, MissingExtra
from onnxmark.registry.engines.cell import Limits
from onnxmark.registry.engines.engine import Engine
from onnxmark.registry.engines.isolation import ask_isolated

_PATIENCE: Final = 30
"""Seconds to wait for a cluster and its first worker."""


@contextmanager
def on_dask(address: str, jobs: int, limits: Limits) -> Iterator[Engine]:
    """A Dask cluster.

    Args:
        address: ``host:port`` of a scheduler, or ``local`` for one of our own, ended when the block is left;
            a script that asks for that one keeps what it does under ``if __name__ == "__main__"``.
        jobs: Workers of one of our own.
        limits: What each task may take.

    Raises:
        EngineError: There is no scheduler, or it has no workers.
        MissingExtra: Dask is not installed.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingExtra("Dask (distributed)", "dask", f"the engine dask://{address}") from error
    library: Any = distributed
    with ExitStack() as stack:
        target: Any = f"tcp://{address}"
        if address == "local":
            # Dask's own memory limit would pause and kill workers for what their cells take.
            options = {
                "n_workers": jobs,
                "threads_per_worker": 1,
                "memory_limit": 0,
                "dashboard_address": "127.0.0.1:0",
            }
            target = stack.enter_context(library.LocalCluster(**options))
        try:
            client = stack.enter_context(library.Client(target, timeout=_PATIENCE, set_as_default=False))
            client.wait_for_workers(1, timeout=_PATIENCE)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise EngineError(
                f"dask://{address} cannot be reached ({reason}); start a scheduler and workers"
            ) from error
        # Pure functions of equal arguments are run once; a chunk that is tried again shall run again.
        executor = stack.enter_context(_shut(client.get_executor(pure=False)))
        capacity = sum(client.nthreads().values())
        yield Engine(executor, partial(ask_isolated, limits), capacity, lambda: client.status == "running")


@contextmanager
def _shut(executor: Any) -> Iterator[Any]:
    """Nothing that still waits shall be run when the scan is left."""
    try:
        yield executor
    finally:
        executor.shutdown(wait=False)
