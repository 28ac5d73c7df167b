"""The model repository of NVIDIA Triton: ``<model>/<version>/model.onnx``, beside it ``<model>/config.pbtxt``.

The configuration may be left out and the file may be called otherwise, but not both: then nothing tells the directory
from any other with a number for a name. ``model.onnx`` may also be a directory that holds the file and its data.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxmark.registry.layouts.layout import NOTHING, Layout, below, last_part, parent

_FILES = ("model.onnx", "model.onnx/model.onnx")


@dataclass(frozen=True, slots=True)
class Triton:
    """One model with its versions.

    Args:
        home: The model's directory.
        model: Its name: its path in the registry around it.
    """

    home: str
    model: str
    name: str = "triton"
    last: frozenset[str] = NOTHING
    never: frozenset[str] = NOTHING

    def identity(self, path: str) -> str:
        """See :class:`onnxmark.registry.layouts.layout.Layout`."""
        version, _, file = below(self.home, path).partition("/")
        return f"{self.model}/{version if file in _FILES else f'{version}/{file}'} (triton)"


def recognised(directory: str, names: frozenset[str], inside: Layout) -> Triton | None:
    """The model whose directory, or version's directory, this is; None for any other."""
    if inside.name != "plain":
        return None
    if "config.pbtxt" in names and any(_is_version(name) for name in names):
        return _model(directory, inside)
    if _is_version(last_part(directory)) and "model.onnx" in names and directory != inside.home:
        return _model(parent(directory), inside)
    return None


def _model(directory: str, inside: Layout) -> Triton:
    # A scan of one model's directory must not lose the model's name.
    name = inside.identity(directory) if directory != inside.home else last_part(directory)
    return Triton(directory, name)


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdigit()
