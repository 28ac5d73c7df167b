"""MLflow's artifact stores: directories called after random numbers, which a database or a tree of YAML files names.

mlruns/<experiment>/models/m-<32 digits>/artifacts/model.onnx    MLflow 3: a logged model
mlruns/<experiment>/<32 digits>/artifacts/<path>/model.onnx      before: an artifact of a run
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from onnxmark.registry.layouts.layout import NOTHING, Layout, below, last_part, parent
from onnxmark.registry.layouts.mlflow_names import Names

_LOGGED: Final = re.compile(r"m-[0-9a-f]{32}")
_RUN: Final = re.compile(r"[0-9a-f]{32}")
_FILE: Final = "model.onnx"


@dataclass(frozen=True, slots=True)
class Logged:
    """A logged model (MLflow 3).

    Args:
        home: Its directory, ``m-…``.
        where: Path to its store from the root of the scan, empty or ending in ``/``: two stores may use one name.
        names: Registered names of this and other models.
    """

    home: str
    where: str
    names: Names
    name: str = "mlflow"
    last: frozenset[str] = NOTHING
    never: frozenset[str] = NOTHING

    def identity(self, path: str) -> str:
        """See :class:`onnxmark.registry.layouts.layout.Layout`."""
        number = last_part(self.home)
        title = self.names.registered.get(number) or f"{self.names.logged.get(number, '')} {number[:14]}".strip()
        file = below(self.home, path).removeprefix("artifacts/")
        return f"{self.where}{title}{'' if file == _FILE else f'/{file}'} (mlflow)"


@dataclass(frozen=True, slots=True)
class Run:
    """A run with its artifacts (before MLflow 3).

    Args:
        home: Its directory.
        where: See :class:`Logged`.
        names: The same.
    """

    home: str
    where: str
    names: Names
    name: str = "mlflow"
    last: frozenset[str] = NOTHING
    never: frozenset[str] = NOTHING

    def identity(self, path: str) -> str:
        """See :class:`onnxmark.registry.layouts.layout.Layout`."""
        run, artifact = last_part(self.home), below(self.home, path).removeprefix("artifacts/")
        model, _, file = artifact.rpartition("/")
        while model:
            title = self.names.registered.get(f"{run}/{model}")
            if title:
                return f"{self.where}{title}{'' if file == _FILE else f'/{file}'} (mlflow)"
            model, _, part = model.rpartition("/")
            file = f"{part}/{file}"
        return f"{self.where}run {run[:12]}/{artifact} (mlflow)"


def recognised(
    directory: str, names: frozenset[str], inside: Layout, known: Callable[[str], Names]
) -> Logged | Run | None:
    """The logged model or run whose directory this is; None for any other."""
    if inside.name != "plain" or "artifacts" not in names:
        return None
    number = last_part(directory)
    if _LOGGED.fullmatch(number) and last_part(parent(directory)) == "models":
        return Logged(directory, _where(parent(directory, 4), inside), known(parent(directory, 2)))
    if _RUN.fullmatch(number):
        return Run(directory, _where(parent(directory, 3), inside), known(parent(directory)))
    return None


def _where(store: str, inside: Layout) -> str:
    """Path from the root to the directory that holds ``mlruns``; empty where that is the root or above it."""
    return f"{inside.identity(store)}/" if store.startswith(inside.home.rstrip("/") + "/") else ""
