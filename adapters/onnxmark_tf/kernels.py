"""Which tensors of an HDF5 file without a model are weights of layers, told by the names that Keras gave them.

Keras 3 calls groups after classes and numbers (``layers/depthwise_conv2d_1/vars/0``) and notes the layer's name in an
attribute; Keras 2 calls them after layers (``depthwise_conv2d_1/depthwise_kernel:0``). What kind of layer it was, and
so the axis order of its kernel, is a guess in either case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

_MAX_OBJECTS: Final = 100_000
_OTHERS: Final = re.compile(r"embedding|lstm|gru|rnn|attention|einsum|normalization|recurrent")
"""Words for layers whose weights ONNX does not keep as those of a convolution or a product."""
_SEPARABLE: Final = ("depthwise_kernel", "pointwise_kernel")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A tensor of the file that looks like the weights of a layer.

    Args:
        place: Where it is in the file.
        name: Path of the layer and name of the weights in it, as :mod:`onnxmark_tf.hosts` would have them.
        order: Axis order, guessed.
    """

    place: str
    name: str
    order: str


def kernels(file: Any) -> Iterator[Kernel]:
    """Every kernel in the file, in the file's order.

    Args:
        file: An open ``h5py.File``.

    Raises:
        ValueError: The file has more objects than any file of Keras.
    """
    names: set[str] = set()
    for place, dataset in _datasets(file):
        kernel = _current(file, place, dataset.ndim) if "/vars/" in place else _legacy(place, dataset.ndim)
        if kernel is not None:
            yield kernel if kernel.name not in names else replace(kernel, name=place.strip("/"))
            names.add(kernel.name)


def _datasets(file: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor but an optimizer's, with its path.

    Soft and external links are not followed, and nothing is visited twice: hard links can lead in circles.
    """
    import h5py

    seen: set[int] = set()
    waiting = [("", file)]
    while waiting:
        place, found = waiting.pop()
        address = h5py.h5o.get_info(found.id).addr
        if address in seen or place.startswith("/optimizer"):
            continue
        seen.add(address)
        if len(seen) > _MAX_OBJECTS:
            raise ValueError(f"more than {_MAX_OBJECTS} objects, so no file of Keras")
        if isinstance(found, h5py.Group):
            names = [name for name in found if isinstance(found.get(name, getlink=True), h5py.HardLink)]
            waiting += [(f"{place}/{name}", found[name]) for name in reversed(names)]
        elif isinstance(found, h5py.Dataset):
            yield place, found


def _current(file: Any, place: str, rank: int) -> Kernel | None:
    """A kernel as Keras 3 keeps it: the first variable of its layer, or for a separable one the first two."""
    owner, _, index = place.rpartition("/vars/")
    kind = owner.rpartition("/")[2]
    names = _SEPARABLE if "separable" in kind else ("kernel",)
    if index not in map(str, range(len(names))):
        return None
    name = names[int(index)]
    order = None if _OTHERS.search(owner) else _order(f"{kind} {name}", rank)
    return None if order is None else Kernel(place, f"{_layer_path(file, owner)}/{name}", order)


def _layer_path(file: Any, owner: str) -> str:
    """Names of the layers on the way to one where the file notes them, else its place in the file."""
    parts = owner.strip("/").split("/")
    ways = [parts[: end + 1] for end in range(len(parts)) if parts[end - 1] == "layers" or end == len(parts) - 1]
    groups = [file.get("/".join((*way, "vars"))) for way in ways]
    names = [None if group is None else group.attrs.get("name") for group in groups]
    return "/".join(str(name) for name in names) if all(isinstance(name, str) for name in names) else "/".join(parts)


def _legacy(place: str, rank: int) -> Kernel | None:
    """A kernel as Keras 2 keeps it: in the group of its layer, under a path that begins with the layer once more."""
    path = place.removeprefix("/model_weights").strip("/").removesuffix(":0").split("/")
    if not path[-1].endswith("kernel"):
        return None
    if len(path) > 2 and path[0] == path[1]:
        del path[0]
    words = " ".join(path).lower()
    order = None if _OTHERS.search(words) else _order(words, rank)
    return None if order is None else Kernel(place, "/".join(path), order)


def _order(words: str, rank: int) -> str | None:
    """Axis order of a kernel of so many axes in a layer that is called so; None where there is no such layer."""
    if rank == 2:
        return "IO"
    if not 3 <= rank <= 5:
        return None
    if "pointwise" not in words and ("depthwise" in words or "separable" in words):
        return "HWCM"
    return "HWOI" if "transpose" in words else "HWIO"
