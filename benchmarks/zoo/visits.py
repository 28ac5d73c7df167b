"""One species by all of its routes: made by its frameworks, converted, traced, compared, marked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from benchmarks.zoo.apart import Measured, apart
from benchmarks.zoo.marks import Mark, mark
from benchmarks.zoo.reference import Reference
from benchmarks.zoo.species import Route, Species
from benchmarks.zoo.tracing import Tracing, difference, trace
from onnxmark.conversion import Container, Conversion, Converter, Request, convert
from onnxmark.conversion.converting import Converters
from onnxmark.errors import OnnxmarkError
from onnxmark.plugins import converter

_CONTAINERS: Final = MappingProxyType(
    {
        Route.KERAS: Container.KERAS,
        Route.SAVED_MODEL: Container.SAVED_MODEL,
        Route.TFLITE: Container.TFLITE,
        Route.PROGRAM: Container.EXPORTED_PROGRAM,
        Route.SAFETENSORS: Container.SAFETENSORS,
        Route.FOLDING: Container.SAFETENSORS,
    }
)
TOLERANCE: Final = 1e-3
"""Largest difference of answers that is taken for rounding, in units of their spread."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One species by one route.

    Args:
        name: The species.
        route: How it got to ONNX.
        kinds: Its kernels by kind.
        problem: Why it did not get there; None where it did.
        programs: What converted it, with versions.
        tracing: What became of its kernels.
        difference: Largest difference of ONNX Runtime's answers from the framework's, the file run as it stands.
        optimised: The same with ONNX Runtime's optimisations.
        spread: By how much the framework's answers to different inputs differ.
        mark: What became of a mark; only asked of files that come from the original.
        seconds: Wall time of the conversion.
        peak: Its largest resident memory, in bytes.
    """

    name: str
    route: Route
    kinds: dict[str, int]
    problem: str | None = None
    programs: str = ""
    tracing: Tracing | None = None
    difference: float = np.nan
    optimised: float = np.nan
    spread: float = np.nan
    mark: Mark | None = None
    seconds: float = np.nan
    peak: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether every kernel was found, the answers agree to a thousandth of their spread, and the mark was told."""
        traced = self.tracing is not None and self.tracing.n_found == self.tracing.n_kernels
        told = self.mark is None or self.mark.is_told
        return self.problem is None and traced and told and self.difference <= TOLERANCE * self.spread

    def figures(self) -> dict[str, Any]:
        """Everything, for JSON."""
        found = {**asdict(self), "is_sound": self.is_sound}
        # JSON has no NaN, which stands for what was not measured.
        return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class Twinned:
    """How a twin compares with its original.

    Args:
        has_same_shapes: Whether both have as many kernels of each shape.
        difference: Largest difference of their answers with the same weights.
        spread: By how much the original's answers to different inputs differ.
    """

    has_same_shapes: bool
    difference: float
    spread: float

    @property
    def relative(self) -> float:
        """The difference in units of the spread."""
        return self.difference / self.spread

    @property
    def is_sound(self) -> bool:
        """Whether it is the same network: the same shapes, and answers equal to a thousandth of their spread."""
        return self.has_same_shapes and self.relative <= TOLERANCE


def visit(species: Species, folder: Path) -> Iterator[Visit | Twinned]:
    """Make a species, then take each of its routes; what went wrong on one says the visit.

    Args:
        species: The species.
        folder: An empty folder.
    """
    apart(keep_original, species, folder)
    reference = Reference.load(folder / "reference.npz")
    if any(route.is_twin for route in species.routes):
        yield apart(keep_twin, species, folder).value
    for route in species.routes:
        yield _visited(species, route, folder, reference)


def _visited(species: Species, route: Route, folder: Path, reference: Reference) -> Visit:
    kinds, target = dict(reference.kinds), folder / f"{route.name.lower()}.onnx"
    try:
        made: Measured[Conversion] = apart(converted, species, route, folder, target)
        tracing = trace(target, reference)
        distances = [difference(target, reference, optimise=optimise) for optimise in (False, True)]
        marked = None if route.is_twin else mark(target, folder / f"{route.name.lower()}-marked.onnx")
    except (OnnxmarkError, ValueError) as error:
        return Visit(species.name, route, kinds, problem=f"{type(error).__name__}: {error}")
    return Visit(
        name=species.name,
        route=route,
        kinds=kinds,
        programs=made.value.route,
        tracing=tracing,
        difference=distances[0],
        optimised=distances[1],
        spread=reference.spread,
        mark=marked,
        seconds=made.seconds,
        peak=made.peak,
    )


def converted(
    species: Species, route: Route, folder: Path, target: Path, converters: Converters = converter
) -> Conversion:
    """Convert what :func:`keep_original` or :func:`keep_twin` left in a folder.

    Raises:
        OnnxmarkError: It cannot be converted.
    """
    # PyTorch does not keep the shapes of inputs with weights; the other containers have them.
    shapes = (("", (1, *species.shape)),) if route.file == Route.SAFETENSORS.file else ()
    factory = f"benchmarks.zoo.twins:{species.name}" if shapes else None
    request = Request(folder / route.file, _CONTAINERS[route], target, factory=factory, shapes=shapes)
    return convert(request, _folding if route is Route.FOLDING else converters)


def _folding(_: Container) -> Converter:
    """Gives what no container asks for: PyTorch's exporter as it is by default."""
    from benchmarks.zoo.twins import convert_folding

    return convert_folding


def keep_original(species: Species, folder: Path) -> None:
    """Have Keras make a species, and leave it in a folder."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    from benchmarks.zoo.originals import keep

    keep(species, folder)


def keep_twin(species: Species, folder: Path) -> Twinned:
    """Have PyTorch make the twin of a species in a folder, leave it there, too, and compare the two."""
    from benchmarks.zoo.twins import keep

    reference = Reference.load(folder / "reference.npz")
    answers, shapes = keep(species.name, folder)
    return Twinned(
        has_same_shapes=shapes == Counter(kernel.shape for kernel in reference.kernels.values()),
        difference=float(np.abs(answers - reference.outputs).max()),
        spread=reference.spread,
    )
