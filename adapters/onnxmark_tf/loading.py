"""Marked weights put back into the Keras model they came from, on any backend: all of them or none.

onnxmark convert model.keras -o model.onnx
onnxmark embed model.onnx --key key.npy -o marked.onnx

load_weights(model, "marked.onnx")       # the Keras model carries the mark now
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from onnxmark.arrays import Float32Array
from onnxmark.conversion import RestoredWeights, restored_weights
from onnxmark.errors import ConversionError
from onnxmark_tf.hosts import HostWeights, host_weights
from onnxmark_tf.orders import stored

_Named = TypeVar("_Named", RestoredWeights, HostWeights)


def load_weights(model: Any, path: str | Path) -> tuple[str, ...]:
    """Put the weights of a converted and marked ONNX file into the Keras model it was converted from.

    Layers are found by name. In a model built anew, the numbers that Keras gives to names may differ (``conv2d_3`` for
    ``conv2d``): then layers of one name are taken in the order of their numbers, if there are as many on both sides.
    Biases and normalisations stay as they are, and so does everything where the file is known to hold nothing.

    Args:
        model: A built ``keras.Model``; changed in place.
        path: A file that ``onnxmark convert`` made of it, marked since.

    Returns:
        Names of the weights that were set, as the model has them.

    Raises:
        ConversionError: The file does not say where its weights came from, or they do not fit the model; then nothing
            was changed.
        ModelError: The file cannot be read.
    """
    where = repr(str(path))
    pairs = _paired(restored_weights(path), host_weights(model), where)
    # Everything that can fail comes before the first assignment.
    arrays = [(host, _stored(restored, host, where)) for restored, host in pairs]
    for host, array in arrays:
        host.tensor.assign(array)
    return tuple(host.name for host, _ in arrays)


def _paired(
    restored: Sequence[RestoredWeights], hosts: Sequence[HostWeights], where: str
) -> list[tuple[RestoredWeights, HostWeights]]:
    """Each of the restored weights with the layer it belongs to."""
    by_name = _by_name(hosts)
    missing = [one.name for one in restored if one.name not in by_name]
    if not missing:
        return [(one, by_name[one.name]) for one in restored]
    ours, theirs = _by_plain_name(restored), _by_plain_name(hosts)
    if any(len(found) != len(theirs.get(name, ())) for name, found in ours.items()):
        raise ConversionError(
            f"{where} holds weights of {missing[0]!r}, which the model does not have (it has "
            f"{', '.join(host.name for host in hosts[:6]) or 'no layer that can carry a mark'}); "
            "load them into the model that was converted"
        )
    return [pair for name, found in ours.items() for pair in zip(found, theirs[name], strict=True)]


def _by_name(hosts: Sequence[HostWeights]) -> dict[str, HostWeights]:
    """Layers by our names for them, and by Keras's, which a SavedModel keeps, where no two share one."""
    shared = Counter(host.path for host in hosts)
    by_path = {host.path: host for host in hosts if shared[host.path] == 1}
    return by_path | {host.name: host for host in hosts}


def _by_plain_name(weights: Iterable[_Named]) -> dict[str, list[_Named]]:
    """Weights by their names without numbers, each list in the order of the numbers."""
    found: dict[str, list[_Named]] = defaultdict(list)
    for one in sorted(weights, key=lambda one: [int(number) for number in re.findall(r"_(\d+)(?=/)", one.name)]):
        found[re.sub(r"_\d+(?=/)", "", one.name)].append(one)
    return found


def _stored(restored: RestoredWeights, host: HostWeights, where: str) -> Float32Array:
    """The values as the layer keeps them."""
    if not host.is_variable:
        raise ConversionError(
            f"{where}: the model computes {host.name!r} from other weights (LoRA?), so nothing can be put into it; "
            "merge them first"
        )
    values = restored.values
    if restored.lost and values.shape == (own := host.values()).shape:
        values = values.copy()
        values[list(restored.lost)] = own[list(restored.lost)]
    try:
        return stored(values, host.order, host.shape)
    except ValueError as error:
        raise ConversionError(
            f"{where}: {restored.name!r} does not fit {host.name!r} of the model ({error}); "
            "load them into the model that was converted"
        ) from error
