"""The keys of a scan, loaded once, grouped by what they read, and handed to workers by reference.

A worker gets the path of a *ring folder*, never a key: the folder lists the key files and keeps their stretched
secrets, which take a tenth of a second each to derive. It is made for one scan, readable by its owner only, and removed
after it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, cast

import numpy as np

from onnxmark.errors import KeyFileError
from onnxmark.keys import AnyKey, Key, Secret, load_key
from onnxmark.plugins import scheme as scheme_of
from onnxmark.schemes.scheme import Reads, Shape

_LIST: Final = "keys.json"
_SECRETS: Final = "secrets.npy"


@dataclass(frozen=True, slots=True)
class Group:
    """Projection keys that are read from the same layers in the same way.

    Args:
        kind: Kind of carrier.
        shape: Shape of the layer they were made for.
        keys: Indices into the ring.
    """

    kind: str
    shape: Shape
    keys: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Ring:
    """The keys of a scan.

    Args:
        keys: In the order of their commitments; each commitment once.
        groups: Own projection keys, grouped.
        others: Indices of all other keys that read weights or widths, one by one.
        asking: Indices of keys that ask the model, which a scan does not run.
    """

    keys: tuple[AnyKey, ...]
    groups: tuple[Group, ...]
    others: tuple[int, ...]
    asking: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)


def ring_of(keys: Sequence[AnyKey]) -> Ring:
    """A ring of keys.

    Raises:
        KeyFileError: A key's parameters make no sense.
        PluginError: A key's scheme is not installed.
    """
    ordered = tuple({key.commitment: key for key in sorted(keys, key=lambda key: key.commitment)}.values())
    grouped: dict[tuple[str, Shape], list[int]] = {}
    others, asking = [], []
    for index, key in enumerate(ordered):
        scheme = scheme_of(key.scheme)
        if isinstance(key, Key):
            scheme.facts(key)
        if isinstance(key, Key) and scheme.name == "projection" and scheme.reads is Reads.WEIGHTS:
            grouped.setdefault((str(key.parameters["carrier"]), key.carrier.shape), []).append(index)
        elif scheme.reads is Reads.ANSWERS:
            asking.append(index)
        else:
            others.append(index)
    groups = tuple(Group(kind, shape, tuple(found)) for (kind, shape), found in sorted(grouped.items()))
    return Ring(ordered, groups, tuple(others), tuple(asking))


@contextmanager
def ring_folder(paths: Sequence[Path], jobs: int | None = None) -> Iterator[Path]:
    """The folder that workers read a ring from, removed afterwards.

    Args:
        paths: Key files.
        jobs: Keys to stretch at a time; None: as many as there are processors.

    Raises:
        KeyFileError: A key cannot be used.
    """
    loaded = [(path, load_key(path)) for path in paths]
    keys = {key.commitment: (path, key) for path, key in loaded}
    room = Path(tempfile.mkdtemp(prefix="onnxmark-ring-"))
    try:
        (room / _LIST).write_text(json.dumps([os.fspath(path.resolve()) for path, _ in keys.values()]))
        # Deriving is what takes long here, and it lets other threads run.
        with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
            secrets = list(pool.map(_secret, [key for _, key in keys.values()]))
        descriptor = os.open(room / _SECRETS, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, np.frombuffer(b"".join(secrets), dtype=np.uint8).reshape(-1, 32))
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


@lru_cache(maxsize=2)
def load_ring(folder: Path) -> Ring:
    """The ring in a folder; a worker loads it once.

    Raises:
        KeyFileError: The folder or a key in it is gone.
    """
    try:
        paths = json.loads((folder / _LIST).read_text())
        secrets = np.load(folder / _SECRETS, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise KeyFileError(f"the ring folder {str(folder)!r} cannot be read: {error}; start the scan again") from error
    return ring_of(
        [_with_secret(load_key(path), secret.tobytes()) for path, secret in zip(paths, secrets, strict=True)]
    )


def _secret(key: AnyKey) -> bytes:
    # Not the cached one: before Python 3.12 its lock lets one thread at a time derive.
    return key.stretched().reveal() if isinstance(key, Key) else bytes(32)


def _with_secret(key: AnyKey, secret: bytes) -> AnyKey:
    """A key whose stretched secret need not be derived again."""
    if not isinstance(key, Key):
        return key
    own = replace(key)
    # A cached property is looked up here before it is computed.
    own.__dict__["master"] = Secret(secret)
    return cast("AnyKey", own)
