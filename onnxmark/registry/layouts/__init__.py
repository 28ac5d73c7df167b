"""How registries lay out their models, and so by what name an owner knows each: told from the names in a directory."""

from __future__ import annotations

from collections.abc import Callable

from onnxmark.registry.layouts import hugging_face, mlflow, triton
from onnxmark.registry.layouts.layout import Layout, Plain
from onnxmark.registry.layouts.mlflow_names import Names, nameless

__all__ = ["Layout", "Plain", "recognised"]


def recognised(
    directory: str, names: frozenset[str], inside: Layout, known: Callable[[str], Names] = nameless
) -> Layout:
    """The layout of a directory.

    Args:
        directory: Absolute path or URL path, with ``/`` between its parts.
        names: What lies in it.
        inside: The layout of the directory around it, which is its own if it shows no other.
        known: The registered names of models, for a directory of MLflow's.
    """
    return (
        hugging_face.recognised(directory, names, inside)
        or mlflow.recognised(directory, names, inside, known)
        or triton.recognised(directory, names, inside)
        or inside
    )
