"""Write the model and the keys of :mod:`benchmarks.audit_speed` into a folder: 1.8 GB of weights inside one file.

A first convolution of a shape of its own, 99 of one other shape, 50 fully connected layers; payloads are inline, and
random, so that no file system can store it sparsely. A process of its own, because it needs gigabytes of memory.

    python -m benchmarks.large_model FOLDER CONVS MATMULS
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxmark.keys import Carrier, Key, Secret, save_key
from onnxmark.schemes.projection.carriers import FoldedCarrier
from onnxmark.schemes.projection.projection import own_projection

N_BITS: Final = 256
UNIQUE: Final = (512, 480, 3, 3)
COMMON: Final = (512, 512, 3, 3)
_WIDTH: Final = 2048


def write_model(path: Path, convs: int, matmuls: int) -> None:
    """A chain of convolutions, a pooling, a chain of fully connected layers."""
    rng = np.random.default_rng(0)
    nodes, initializers, value = [], [], "image"

    def layer(op: str, name: str, shape: tuple[int, ...], **attributes: Any) -> None:
        nonlocal value
        payload = (0.02 * rng.standard_normal(shape, dtype=np.float32)).tobytes()
        initializers.append(helper.make_tensor(f"{name}.weight", TensorProto.FLOAT, shape, payload, raw=True))
        nodes.append(helper.make_node(op, [value, f"{name}.weight"], [name], name=name, **attributes))
        value = name

    for index in range(convs):
        layer("Conv", f"conv{index}", COMMON if index else UNIQUE, pads=[1, 1, 1, 1])
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
    value = "flat"
    for index in range(matmuls):
        layer("MatMul", f"fc{index}", (_WIDTH if index else UNIQUE[0], _WIDTH))
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, UNIQUE[1], 8, 8])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="onnxmark benchmarks")
    onnx.save(model, str(path))


def write_key(folder: Path, name: str, shape: tuple[int, ...], carrier: str) -> None:
    """The key as ``<name>.npy``, and what it grows into in the folder ``<name>``, for the reader without onnxmark."""
    seed, salt = (hashlib.sha256(f"onnxmark audit speed|{name}|{part}".encode()).digest() for part in ("seed", "salt"))
    parameters = {"generator": "rademacher", "carrier": carrier}
    key = Key("projection", Secret(seed), salt, np.zeros(N_BITS, np.uint8), (Carrier(shape),), parameters)
    save_key(key, folder / f"{name}.npy")
    projection = own_projection(key, shape)
    arrays = {
        "shape": np.array(shape),
        "rows": projection.rows(0, N_BITS).astype(np.int8),
        "message": projection.message,
    }
    if isinstance(projection.carrier, FoldedCarrier):
        arrays |= {"buckets": projection.carrier.buckets, "signs": projection.carrier.signs}
    (folder / name).mkdir()
    for part, array in arrays.items():
        np.save(folder / name / f"{part}.npy", array)


KEYS: Final = {
    "one-mean": (UNIQUE, "mean-ihw"),
    "one-fold": (UNIQUE, "fold:65536"),
    "all-mean": (COMMON, "mean-ihw"),
    "all-fold": (COMMON, "fold:65536"),
}
"""A key by name: the shape it fits and its carrier."""


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_model(target / "model.onnx", int(sys.argv[2]), int(sys.argv[3]))
    for key_name, (key_shape, key_carrier) in KEYS.items():
        write_key(target, key_name, key_shape, key_carrier)
