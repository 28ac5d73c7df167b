"""A model whose weights come from outside: one session answers for every version of a layer.

Rewriting, reloading and optimising a model again for each of a hundred attacked versions costs far more than running
it. Here the nodes that use a layer read it from a new graph input instead, which every run feeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxmark.arrays import AnyArray, Float32Array
from onnxmark.errors import CalibrationError
from onnxmark.model.editing.whole import load_whole
from onnxmark.model.inverse import NotInvertible, native_values
from onnxmark.model.locate import WeightSite
from onnxmark.model.opened import Model
from onnxmark.model.running.calibration import BATCH_SIZE, Calibration, bind
from onnxmark.model.running.runtime import Fidelity, answers, compared, open_session


class WeightProbe:
    """Compares the answers of a model with those it gives after some of its weights have changed.

    Args:
        path: The model; external data is read from beside it.
        names: The weight sites that may change.
        calibration: Inputs, with labels where accuracy is wanted.
        batch_size: Inputs at a time, where the model leaves it open.

    Raises:
        CalibrationError: The inputs do not fit, or the weights of a layer cannot come from outside.
        MissingExtra: onnxruntime is not installed.
        ModelError: The model cannot be loaded, or has more than 2 GiB.
    """

    def __init__(
        self, path: Path, names: Sequence[str], calibration: Calibration, *, batch_size: int = BATCH_SIZE
    ) -> None:
        self._path, self._size = path, batch_size
        proto = load_whole(path)
        with Model(path) as model:
            self._weights = {
                name: _native(model, model.site(name), model.read(model.site(name)).values) for name in names
            }
            for name, values in self._weights.items():
                _open(proto.graph, model.site(name), values)
        self._original, self._open = open_session(path), open_session(proto.SerializeToString())
        self._bound = bind(calibration, self._original.inputs)
        self._before = [found for _, found in answers(self._original, self._bound, batch_size)]

    def fidelity(self, values: Mapping[str, Float32Array]) -> Fidelity:
        """What becomes of the answers.

        Args:
            values: New weights by site name, canonical order; the other sites keep theirs.

        Raises:
            CalibrationError: The model fails on the inputs.
        """
        with Model(self._path) as model:
            changed = {name: _native(model, model.site(name), array) for name, array in values.items()}
        fed = {_input(name): array for name, array in {**self._weights, **changed}.items()}
        after = answers(self._open, self._bound, self._size, fed)
        pairs = zip(self._before, after, strict=True)
        return compared(((batch, old, new) for old, (batch, new) in pairs), self._bound, self._original)


def _input(name: str) -> str:
    return f"onnxmark:{name}"


def _native(model: Model, site: WeightSite, values: Float32Array) -> AnyArray:
    """Canonical weights as the nodes of the site want them."""
    if site.plan is None or site.native is None:
        raise CalibrationError(f"weights {site.name!r} cannot be fed from outside: {site.problem}")
    try:
        return np.ascontiguousarray(native_values(site.plan, site.native, values, model.payloads))
    except NotInvertible as why:
        raise CalibrationError(f"weights {site.name!r} cannot be fed from outside: {why}") from None


def _open(graph: Any, site: WeightSite, values: AnyArray) -> None:
    """Let the nodes of a site read its weights from a new input of the graph."""
    import onnx

    if any(use.scope.trail != () for use in site.uses):
        raise CalibrationError(f"weights {site.name!r} lie in a subgraph or function and cannot be fed from outside")
    name = _input(site.name)
    element = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    graph.input.append(onnx.helper.make_tensor_value_info(name, element, values.shape))
    for use in site.uses:
        graph.node[use.node].input[use.input] = name
