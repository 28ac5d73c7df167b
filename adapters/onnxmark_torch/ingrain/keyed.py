"""From a key to what is trained on: the key was made of inputs as models take them, training wants images as stored.

The way there and back: write a pool's inputs to a file, let ``onnxmark keygen --scheme ingrain`` choose among them with
reference networks, then find the key's carriers in the pool again and label them as its coins say.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from onnxmark.arrays import AnyArray, Float32Array
from onnxmark.errors import DataError
from onnxmark.keys import Key
from onnxmark.schemes.answers.ingrain import IngrainScheme
from onnxmark.schemes.answers.trigger import TriggerScheme
from onnxmark_torch.data import Examples
from onnxmark_torch.tasks import Task


def write_pool(path: Path, pool: Examples, task: Task) -> None:
    """Write what ``onnxmark keygen --inputs`` reads: a pool's images as the task's networks take them (``.npy``)."""
    with path.open("wb") as file:
        np.save(file, _inputs(pool, task))


def keyed_carriers(key: Key, pool: Examples, task: Task, inputs: AnyArray | None = None) -> Examples:
    """A key's carriers as images of the pool, with the classes that its coins name, or those drawn for triggers.

    Args:
        key: An ingrain or trigger key.
        pool: What the key was made from; its labels are not looked at.
        task: How networks see the pool.
        inputs: The key's inputs, where it holds their digest only.

    Raises:
        DataError: A carrier is not in the pool.
        KeyFileError: The key is of another scheme, or lacks its inputs.
    """
    scheme = TriggerScheme() if key.scheme == TriggerScheme.name else IngrainScheme()
    places = {_digest(row): place for place, row in enumerate(_inputs(pool, task))}
    wanted = scheme.inputs(key, inputs)
    found = [places[digest] for digest in map(_digest, wanted) if digest in places]
    if len(found) != len(wanted):
        raise DataError(
            f"the pool holds {len(found):,} of the key's {len(wanted):,} carriers; "
            "give the pool the key was made from, and the task as it was then"
        )
    return Examples(pool.images[found], scheme.labels(key), pool.class_names)


def _inputs(pool: Examples, task: Task) -> Float32Array:
    inputs: Float32Array = task.inputs(torch.tensor(pool.images)).numpy()
    return inputs


def _digest(row: AnyArray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(row, dtype=np.float32).tobytes()).digest()
