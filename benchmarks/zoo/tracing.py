"""Which kernels of a model are in the ONNX file made from it: asked of the file's own record, judged by the reference.

The record says how to get the framework's kernels back out of the file; here each kernel of the reference is looked for
among them by value, whatever it is called, and then once more by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.zoo.reference import Reference
from onnxmark.arrays import Float32Array
from onnxmark.conversion import RestoredWeights, restored_weights
from onnxmark.conversion.origins import from_record
from onnxmark.model import open_model
from onnxmark.model.running.runtime import open_session

CLOSE: Final = 1e-5
"""Relative distance of kernels that differ by rounding: folding a factor in and out again leaves some 1e-7."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """What became of a model's kernels.

    Args:
        n_kernels: Kernels of the framework's model.
        n_equal: Those the file gives back bit by bit.
        n_close: Those it gives back to within :data:`CLOSE`, the others not counted.
        n_scaled: Those it gives back but for a factor for each filter: the container had them folded already.
        n_named: Kernels found under their own name.
        n_folded: Layers of the file that a normalisation is folded into.
        error: Largest relative distance of a kernel found from the framework's.
        missing: Kernels not found.
        n_layers: Layers of the file that could hold a mark.
        untraced: Layers of the file that hold no kernel of the framework's, in words.
    """

    n_kernels: int
    n_equal: int
    n_close: int
    n_scaled: int
    n_named: int
    n_folded: int
    error: float
    missing: tuple[str, ...]
    n_layers: int
    untraced: tuple[str, ...]

    @property
    def n_found(self) -> int:
        """Kernels found, in whichever way."""
        return self.n_equal + self.n_close + self.n_scaled


@dataclass(frozen=True, slots=True)
class _Match:
    """The weights restored from a file that come nearest to a kernel."""

    name: str
    distance: float
    is_scaled: bool


def trace(path: Path, reference: Reference) -> Tracing:
    """Look for every kernel of a reference in a converted file.

    Raises:
        ConversionError: The file has no record of where its weights came from.
        ModelError: It cannot be read.
    """
    restored = restored_weights(path)
    matches = {name: _nearest(kernel, restored) for name, kernel in reference.kernels.items()}
    found = {name: match for name, match in matches.items() if match.distance <= CLOSE}
    with open_model(path) as model:
        origins = {origin.site: origin for origin in from_record(model.metadata, str(path))}
        sites = model.sites()
    return Tracing(
        n_kernels=len(matches),
        n_equal=sum(match.distance == 0 for match in found.values()),
        n_close=sum(match.distance > 0 and not match.is_scaled for match in found.values()),
        n_scaled=sum(match.is_scaled for match in found.values()),
        n_named=sum(_plain(match.name) == name for name, match in found.items()),
        n_folded=sum(origin.factors is not None for origin in origins.values()),
        error=max((match.distance for match in found.values()), default=np.inf),
        missing=tuple(name for name in matches if name not in found),
        n_layers=len(sites),
        untraced=tuple(
            f"{site.name} ({site.op} {'x'.join(map(str, site.shape))}): {site.problem or 'no kernel of the model'}"
            for site in sites
            if site.name not in origins
        ),
    )


def difference(path: Path, reference: Reference, *, optimise: bool = False) -> float:
    """The largest difference of ONNX Runtime's answers from the framework's.

    Args:
        path: The file.
        reference: The framework's model.
        optimise: Let ONNX Runtime rewrite the graph. That is another question than whether the file is right: version
            1.31 takes zeros that pad an image before a maximum for padding that never wins.

    Raises:
        ValueError: The file has inputs that the model has not.
        OnnxmarkError: It does not run.
    """
    session = open_session(path, optimise=optimise)
    if len(session.inputs) != 1:
        raise ValueError(f"the file asks for {len(session.inputs)} inputs, the model for one: {session.inputs[1:]}")
    given = session.inputs[0]
    pixels = reference.inputs
    if given.shape[1] == pixels.shape[3]:
        pixels = pixels.transpose(0, 3, 1, 2)
    size = given.shape[0] or len(pixels)
    answers = [
        session.run({given.name: np.ascontiguousarray(pixels[start : start + size])})[session.outputs[0]]
        for start in range(0, len(pixels), size)
    ]
    return float(np.abs(np.concatenate(answers) - reference.outputs).max())


def _nearest(kernel: Float32Array, restored: Sequence[RestoredWeights]) -> _Match:
    """The best match by value; one of equal scale before one that is but proportional."""
    alike = [one for one in restored if one.values.shape == kernel.shape]
    exact = [_Match(one.name, _distance(one.values, kernel), is_scaled=False) for one in alike]
    best = min(exact, key=lambda match: match.distance, default=_Match("", np.inf, is_scaled=False))
    if best.distance <= CLOSE:
        return best
    scaled = [_Match(one.name, _distance(_rescaled(one.values, kernel), kernel), is_scaled=True) for one in alike]
    return min(scaled, key=lambda match: match.distance, default=best)


def _distance(values: Float32Array, kernel: Float32Array) -> float:
    return float(np.linalg.norm((values - kernel).ravel()) / np.linalg.norm(kernel.ravel()))


def _rescaled(values: Float32Array, kernel: Float32Array) -> Float32Array:
    """Values with every filter at the scale of the kernel's, by its first largest weight."""
    rows, wanted = values.reshape(len(values), -1), kernel.reshape(len(kernel), -1)
    place = np.abs(wanted).argmax(axis=1)[:, np.newaxis]
    there = np.take_along_axis(rows, place, axis=1)
    factors = np.take_along_axis(wanted, place, axis=1) / np.where(there == 0, 1, there)
    return np.reshape(rows * factors, values.shape)


def _plain(name: str) -> str:
    """A framework's path of weights as the reference calls them (``conv1/kernel``)."""
    if name.endswith(".weight"):
        layer, _, part = name.removesuffix(".weight").partition("__")
        return f"{layer}/{part}_kernel" if part else f"{layer}/kernel"
    return "/".join(name.split("/")[-2:])
