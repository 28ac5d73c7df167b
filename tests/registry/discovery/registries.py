"""Registries on disk as the tools that make them leave them, and short ways to ask what is found in one."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxmark.registry.discovery import discover
from onnxmark.registry.entries import Found, Outcome
from onnxmark.registry.filters import Filters
from onnxmark.registry.walking import Tally


@cache
def model_bytes(seed: int = 0, location: str | None = None, shape: tuple[int, ...] = (4, 3, 3, 3)) -> bytes:
    """A model with one convolution; with a location, its weights are said to be in that file."""
    weights = numpy_helper.from_array(np.random.default_rng(seed).normal(size=shape).astype(np.float32), "w")
    if location is not None:
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weights],
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def data_bytes(seed: int = 0, shape: tuple[int, ...] = (4, 3, 3, 3)) -> bytes:
    """What the data file of that model holds."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32).tobytes()


def put(path: Path, data: bytes | str | None = None) -> Path:
    """A file with its directories; a model unless other bytes are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, str):
        data = data.encode()
    path.write_bytes(model_bytes() if data is None else data)
    return path


def link(path: Path, target: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def snapshot(cache: Path, repository: str, revision: str, files: dict[str, bytes], *, branch: str = "main") -> Path:
    """A revision of a repository in a Hugging Face cache, blobs called by their git digests as far as this matters."""
    import hashlib

    home = cache / ("models--" + repository.replace("/", "--"))
    put(home / "refs" / branch, revision)
    for name, data in files.items():
        blob = hashlib.sha256(data).hexdigest()
        put(home / "blobs" / blob, data)
        path = home / "snapshots" / revision / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(home / "blobs" / blob, path.parent))
    return home


def found(*roots: Path | str, tally: Tally | None = None, **filters) -> list[Found]:
    return list(discover([str(root) for root in roots], Filters.given(**filters), tally))


def outcomes(*roots: Path | str, **filters) -> dict[str, str]:
    """Identity → outcome; fails if one identity is found twice."""
    all_found = found(*roots, **filters)
    assert len({each.identity for each in all_found}) == len(all_found)
    return {each.identity: str(each.outcome) for each in all_found}


def models(*roots: Path | str, **filters) -> list[str]:
    return [each.identity for each in found(*roots, **filters) if each.outcome is Outcome.MODEL]


def only(*roots: Path | str, **filters) -> Found:
    (one,) = found(*roots, **filters)
    return one


def parses_as_a_model(data: bytes) -> bool:
    """Whether protobuf takes the bytes for a ModelProto."""
    try:
        onnx.ModelProto.FromString(data)
    except Exception:
        return False
    return True
