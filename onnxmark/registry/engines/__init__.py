"""Where a scan runs: on this machine, or on a Dask or Ray cluster, always in cells that no model can break out of."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from onnxmark.errors import EngineError
from onnxmark.registry.engines.cell import Limits
from onnxmark.registry.engines.dask import on_dask
from onnxmark.registry.engines.engine import Engine
from onnxmark.registry.engines.local import on_this_machine
from onnxmark.registry.engines.ray import on_ray
from onnxmark.registry.engines.worker import Task

__all__ = ["ENGINES", "Engine", "Limits", "Task", "open_engine"]

ENGINES: Final = {"dask": on_dask, "local": on_this_machine, "ray": on_ray}
"""By the scheme of their address."""


def open_engine(address: str, *, jobs: int, limits: Limits | None = None) -> AbstractContextManager[Engine]:
    """The engine of an address.

    Args:
        address: ``local``; ``dask://HOST:PORT`` or ``dask://local``; ``ray://HOST:PORT``, ``ray://auto`` or
            ``ray://local``.
        jobs: Workers, where they are ours to start.
        limits: What each may take for one chunk.

    Raises:
        EngineError: There is no such engine.
        ValueError: There are no workers.
    """
    if jobs < 1:
        raise ValueError(f"a scan takes at least one worker, found {jobs}")
    name, _, place = address.partition("://")
    # Only our own workers are nowhere else.
    if name not in ENGINES or (address == "local") is not (name == "local") or (name != "local" and not place):
        raise EngineError(
            f"there is no engine {address!r}; there are local, dask://HOST:PORT, dask://local, ray://HOST:PORT, "
            "ray://auto and ray://local"
        )
    return ENGINES[name](place, jobs, limits or Limits())
