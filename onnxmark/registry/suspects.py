"""A model of a chunk, open: which of its layers the keys of a group could be in, and what those layers hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.conversion import Container
from onnxmark.errors import ModelError
from onnxmark.model import Model, WeightSite
from onnxmark.registry.ring import Group
from onnxmark.schemes.projection.carriers import fit_kernel, fitting_shape
from onnxmark.schemes.scheme import Shape
from onnxmark.views import View, look, views_of
from onnxmark.weights import WeightTensor

UNEVEN: Final = "all weights are equal"
UNSOUND: Final = "the weights are not all finite"


@dataclass(frozen=True, slots=True)
class Place:
    """A layer as keys of a group would read it.

    Args:
        site: The layer.
        view: How it is looked at; the filters' norms, which each key remembers for itself, are no view here.
        shape: The shape in which it is read.
    """

    site: WeightSite
    view: View
    shape: Shape


@dataclass(eq=False)
class Suspect:
    """An open model and what was read of it so far.

    Args:
        model: The model, open.
        source: What it was found as: its file, or the container that it was converted from.
        container: What kind of container; None for an ONNX file.
        companions: Path, size, time and inode of each other file that holds weights of it.
        problems: Layers that could not be read, by name.
        touched: Layers that some key was looked for in, by name.
    """

    model: Model
    source: Path
    container: Container | None = None
    companions: tuple[tuple[str, int, int, int], ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    _values: dict[tuple[str, View], WeightTensor | None] = field(default_factory=dict)
    _places: dict[tuple[str, Shape], tuple[Place, ...]] = field(default_factory=dict)

    def places(self, group: Group) -> tuple[Place, ...]:
        """Where the keys of a group are looked for, readable or not."""
        wanted = (group.kind, group.shape)
        if wanted not in self._places:
            self._places[wanted] = tuple(self._found(group))
        return self._places[wanted]

    def _found(self, group: Group) -> Sequence[Place]:
        found = []
        for site in self.model.sites():
            shape = fitting(group.kind, group.shape, site.shape) if site.shape else None
            if shape is not None:
                self.touched.add(site.name)
                found += [Place(site, view, shape) for view in views_of(self.model, (site,), None, align=False)]
        return found

    def values(self, place: Place) -> Float32Array | None:
        """The layer's weights in the shape they are read in; None where they cannot bear evidence."""
        weights = self._read(place.site, place.view)
        if weights is None:
            return None
        return weights.values if weights.shape == place.shape else fit_kernel(weights.values, place.shape)

    def _read(self, site: WeightSite, view: View) -> WeightTensor | None:
        wanted = (site.name, view)
        if wanted not in self._values:
            self._values[wanted] = self._look(site, view)
        return self._values[wanted]

    def _look(self, site: WeightSite, view: View) -> WeightTensor | None:
        try:
            if view is View.STORED:
                seen = self.model.read(site)
            else:
                stored = self._read(site, View.STORED)
                if stored is None:
                    return None
                (seen,) = look(self.model, (site,), view, (stored,), None)
        except ModelError as error:
            self.problems.setdefault(site.name, str(error))
            return None
        unsound = unfit(seen.values)
        if unsound is not None:
            self.problems.setdefault(site.name, unsound)
            return None
        return seen

    def forget(self) -> None:
        """Let go of the weights read."""
        self._values.clear()


@lru_cache(maxsize=65536)
def fitting(kind: str, recorded: Shape, shape: Shape) -> Shape | None:
    """As :func:`onnxmark.schemes.projection.carriers.fitting_shape`; registries repeat a few shapes endlessly."""
    return fitting_shape(kind, recorded, shape)


def unfit(values: Float32Array) -> str | None:
    """Why a layer cannot bear evidence, or None."""
    if not np.isfinite(values).all():
        return UNSOUND
    return UNEVEN if values.min() == values.max() else None
