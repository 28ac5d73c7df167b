"""The engine of a Ray cluster, which must see the models and the ring under the paths that the scan sees them by."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from typing import Any

from onnxmark.errors import EngineError, MissingExtra
from onnxmark.registry.engines.cell import Limits
from onnxmark.registry.engines.engine import Engine
from onnxmark.registry.engines.isolation import ask_isolated


class RayExecutor(Executor):
    """What concurrent.futures promises, over Ray's tasks.

    Args:
        remote: ``ray.remote`` of a function that calls what it is given.
        cancel: ``ray.cancel``.
    """

    def __init__(self, remote: Any, cancel: Callable[[Any], object]) -> None:
        self._remote = remote
        self._cancel = cancel
        self._running: dict[Future[Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a task."""
        reference = self._remote.remote(fn, args, kwargs)
        future: Future[Any] = reference.future()
        self._running[future] = reference
        future.add_done_callback(lambda done: self._running.pop(done, None))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Forget what still runs; Ray cancels it where it can."""
        for future, reference in list(self._running.items()):
            if cancel_futures:
                self._cancel(reference)
            if wait:
                future.exception()


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


@contextmanager
def on_ray(address: str, jobs: int, limits: Limits) -> Iterator[Engine]:
    """A Ray cluster.

    Args:
        address: ``host:port`` of a Ray client server, ``auto`` for the cluster of this machine, or ``local`` for one of
            our own, ended when the block is left.
        jobs: CPUs of one of our own.
        limits: What each task may take.

    Raises:
        EngineError: There is no cluster.
        MissingExtra: Ray is not installed.
    """
    # Ray reports its use to its makers unless told otherwise; we report nothing to anyone.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("Ray", "ray", f"the engine ray://{address}") from error
    library: Any = ray
    own = {"address": "local", "num_cpus": jobs, "include_dashboard": False}
    options = own if address == "local" else {"address": address if address == "auto" else f"ray://{address}"}
    try:
        library.init(**options, log_to_driver=False, configure_logging=False)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EngineError(f"ray://{address} cannot be reached ({reason}); start the cluster") from error
    executor = RayExecutor(library.remote(num_cpus=1)(_call), library.cancel)
    try:
        capacity = max(1, int(library.cluster_resources().get("CPU", 1)))
        yield Engine(executor, partial(ask_isolated, limits), capacity, library.is_initialized)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        library.shutdown()
