"""A registry as large as wanted, shaped like real ones: thousands of files whose weights are real where keys read.

Every file is a whole ONNX model of a usual architecture, 3 to 45 MB long. Layers that no key of the ring could be in
are holes in the file, which take no disk; the others hold random weights of their own, so that nothing can be cached by
content. Some models are marked, and some of those were attacked afterwards.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnxmark.attacks import Means, apply_attack
from onnxmark.attacks.noise import GaussianNoise
from onnxmark.attacks.pruning import MagnitudePruning
from onnxmark.attacks.quantisation import UniformQuantisation
from onnxmark.keymaking import make_key
from onnxmark.keys import Carrier, Key, load_key, save_key
from onnxmark.model import open_model, write_model
from onnxmark.schemes.projection.scheme import ProjectionScheme
from onnxmark.schemes.scheme import EmbeddingMeans

Shape = tuple[int, ...]
RESNET18: Final[tuple[Shape, ...]] = (
    (64, 3, 7, 7), *((64, 64, 3, 3),) * 4, (128, 64, 3, 3), *((128, 128, 3, 3),) * 3, (256, 128, 3, 3),
    *((256, 256, 3, 3),) * 3, (512, 256, 3, 3), *((512, 512, 3, 3),) * 3,
)  # fmt: skip
MOBILENET: Final[tuple[Shape, ...]] = (
    (32, 3, 3, 3), (96, 16, 1, 1), (24, 96, 1, 1), (144, 24, 1, 1), (32, 144, 1, 1), (192, 32, 1, 1), (64, 192, 1, 1),
    *((384, 64, 1, 1), (64, 384, 1, 1)) * 3, (96, 384, 1, 1), *((576, 96, 1, 1), (96, 576, 1, 1)) * 2,
    (160, 576, 1, 1), *((960, 160, 1, 1), (160, 960, 1, 1)) * 2, (320, 960, 1, 1), (1280, 320, 1, 1),
)  # fmt: skip
WIDE_RESNET: Final[tuple[Shape, ...]] = (
    (16, 3, 3, 3), (64, 16, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3), (256, 128, 3, 3),
    (256, 256, 3, 3),
)  # fmt: skip
ARCHITECTURES: Final = {"resnet18": RESNET18, "mobilenet": MOBILENET, "wrn": WIDE_RESNET}
KEYED: Final[dict[Shape, int]] = {
    (64, 64, 3, 3): 6, (128, 128, 3, 3): 4, (384, 64, 1, 1): 4, (576, 96, 1, 1): 3, (960, 160, 1, 1): 3,
}  # fmt: skip
"""Layers that keys are made for, and how many of twenty keys each gets."""
_READ: Final = frozenset(shape[1:] for shape in KEYED)
"""Filters that a key reads: those of Uchida's fit layers of any number of them."""
N_BITS: Final = 256
_LEAST_BITS: Final = 128
ATTACKS: Final = (None, MagnitudePruning(0.65), UniformQuantisation(8), GaussianNoise(0.25), None)
_POOL: Final = 2**24


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """An architecture as bytes: what every file of it has in common, and where its weights lie.

    Args:
        size: Bytes of a file.
        common: Stretches of bytes that are no weights, by offset.
        keyed: Offset and shape of each layer that a key could be in.
    """

    size: int
    common: tuple[tuple[int, bytes], ...]
    keyed: tuple[tuple[int, Shape], ...]

    @classmethod
    def of(cls, shapes: Sequence[Shape]) -> Template:
        """The template of a chain of convolutions; weights are found by a pattern that nothing else contains."""
        data = _serialised(shapes)
        cuts, keyed, position = [], [], 0
        for index, shape in enumerate(shapes):
            length = 4 * math.prod(shape)
            start = data.index(_pattern(index), position)
            cuts.append((position, data[position:start]))
            if shape[1:] in _READ:
                keyed.append((start, shape))
            position = start + length
        return cls(len(data), (*cuts, (position, data[position:])), tuple(keyed))

    def write(self, path: Path, pool: NDArray[np.float32], rng: np.random.Generator) -> None:
        """A file of this architecture with weights of its own."""
        with path.open("wb") as file:
            descriptor = file.fileno()
            os.truncate(descriptor, self.size)
            for offset, data in self.common:
                os.pwrite(descriptor, data, offset)
            for offset, shape in self.keyed:
                count = math.prod(shape)
                start = int(rng.integers(len(pool) - count))
                os.pwrite(
                    descriptor, (pool[start : start + count] * np.float32(rng.uniform(0.02, 0.1))).tobytes(), offset
                )


def _pattern(index: int) -> bytes:
    return b"weights of layer %04d" % index


def _serialised(shapes: Sequence[Shape]) -> bytes:
    nodes, weights = [], []
    for index, shape in enumerate(shapes):
        filler = _pattern(index).ljust(4 * math.prod(shape), b"\0")
        tensor = TensorProto(dims=shape, data_type=TensorProto.FLOAT, name=f"layer{index}.weight", raw_data=filler)
        weights.append(tensor)
        # Every layer reads the input of its width: a registry is scanned by its weights, not by what they compute.
        nodes.append(helper.make_node("Conv", [f"x{shape[1]}", tensor.name], [f"y{index}"], name=f"conv{index}"))
    inputs = [helper.make_tensor_value_info(f"x{n}", TensorProto.FLOAT, None) for n in {shape[1] for shape in shapes}]
    outputs = [helper.make_tensor_value_info(f"y{len(shapes) - 1}", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """A registry on disk.

    Args:
        models: Folder of the models.
        keys: Folder of the ring.
        planted: By name of a model's file the name of the key in it.
        logical: Bytes of all models, holes included.
    """

    models: Path
    keys: Path
    planted: dict[str, str]
    logical: int


def populate(room: Path, n_models: int, n_keys: int, n_planted: int, seed: int = 0) -> Population:
    """Make a registry and a ring.

    Args:
        room: An empty folder, or one of the same make to take up again.
        n_models: Number of models.
        n_keys: Number of keys.
        n_planted: Keys whose mark is in a model.
        seed: The same seed gives the same weights; keys are drawn by the operating system.
    """
    models, keys = room / "models", room / "keys"
    rng = np.random.default_rng(seed)
    pool = rng.standard_t(4, _POOL).astype(np.float32)
    templates = {name: Template.of(shapes) for name, shapes in ARCHITECTURES.items()}
    keys.mkdir(parents=True, exist_ok=True)
    rings = [save_key(key, keys / f"key{index:03}.npy") for index, key in enumerate(_ring(n_keys))]
    logical = 0
    for index in range(n_models):
        name = rng.choice(list(templates), p=[0.3, 0.4, 0.3])
        path = models / f"team{index % 37:02}" / f"{name}-{index:05}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        templates[name].write(path, pool, rng)
        logical += templates[name].size
    planted = _plant(models, rings, n_planted, rng)
    return Population(models, keys, planted, logical)


def _ring(count: int) -> list[Key]:
    """Keys of the mission's kinds: most of ours, some of Uchida's."""
    shapes = [shape for shape, share in KEYED.items() for _ in range(share)]
    keys = []
    for index in range(count):
        shape = shapes[index % len(shapes)]
        # Few entries hold few bits, and 40 bits right are no match among ten million hypotheses.
        uchida = index % 10 == 9 and math.prod(shape[1:]) >= 4 * _LEAST_BITS
        options: dict[str, Any] = {"generator": "gaussian", "kind": "mean-ihw"} if uchida else {}
        n_bits = min(N_BITS, math.prod(shape[1:]) // 4) if uchida else N_BITS
        keys.append(make_key(Carrier(shape), np.zeros(n_bits, np.uint8), **options))
    return keys


def _plant(models: Path, ring: Sequence[Key], count: int, rng: np.random.Generator) -> dict[str, str]:
    scheme, planted = ProjectionScheme(), {}
    files = sorted(models.rglob("*.onnx"))
    rng.shuffle(files)
    for index in range(count):
        number = (index * 7) % len(ring)
        key = load_key(models.parent / "keys" / f"key{number:03}.npy")
        assert isinstance(key, Key)
        for path in files:
            if str(path.relative_to(models)) in planted:
                continue
            with open_model(path) as model:
                fitting = [site for site in model.sites() if site.shape == key.carrier.shape]
                if not fitting:
                    continue
                site = fitting[0]
                weights = model.read(site)
            (reading,) = scheme.readings(key, (site.shape,))
            (marked,) = scheme.embed(key, (weights,), reading, EmbeddingMeans(1.0)).layers
            attack = ATTACKS[index % len(ATTACKS)]
            values = marked if attack is None else apply_attack(attack, marked, Means(rng))
            target = path.with_suffix(".marked")
            write_model(path, {site.name: values.values}, target)
            target.replace(path)
            planted[str(path.relative_to(models))] = f"key{number:03}.npy"
            break
    return planted
