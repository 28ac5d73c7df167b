"""What is fuzzed: functions from bytes to the word for what came of them, which break on anything not promised.

The promise is the same everywhere: a result of the declared kind or one typed error of one printable line, no warning
from a library below, and no file left open.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from onnxmark.errors import KeyFileError, MessageError, ModelError, OnnxmarkError
from onnxmark.keys import ForeignKey, Key, load_key, load_message
from onnxmark.model import open_model
from onnxmark.model.locate import WeightSite
from onnxmark.model.opened import Model

LIMIT: Final = 1 << 20
"""Bytes a tensor may have as float32 while fuzzing: far more than the inputs hold, so what grows is noticed."""

Target = Callable[[bytes], str]


class BrokenPromiseError(AssertionError):
    """An outcome that is neither a proper result nor a proper error."""


class ModelFile:
    """A target that opens its input as a model, lists it and reads all it lists.

    Args:
        path: File the inputs are written to; None keeps them in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = _File(path)

    def __call__(self, data: bytes) -> str:
        """The word for what came of ``data``."""
        self._file.hold(data)
        with warnings.catch_warnings(record=True) as noticed:
            warnings.simplefilter("always")
            outcome = _examined(self._file.path)
        _quiet(noticed)
        return outcome


class KeyFile:
    """A target that loads its input as a key, and as a message."""

    def __init__(self) -> None:
        self._file = _File(None)

    def __call__(self, data: bytes) -> str:
        """The word for what came of ``data``."""
        self._file.hold(data)
        with warnings.catch_warnings(record=True) as noticed:
            warnings.simplefilter("always")
            outcome = self._loaded()
        _quiet(noticed)
        return outcome

    def _loaded(self) -> str:
        try:
            key = load_key(self._file.path)
        except KeyFileError as error:
            _one_line(error)
            outcome = type(error).__name__
        else:
            _promised(isinstance(key, Key | ForeignKey), "a key")
            if isinstance(key, Key):
                _promised(1 <= key.n_bits <= 65536 and len(key.salt) == 32, "a sound key")
                return "key"
            _promised(bool(np.isfinite(key.matrix).all()) and key.matrix.ndim == 2, "a finite matrix")
            outcome = "matrix"
        try:
            bits = load_message(self._file.path)
        except (KeyFileError, MessageError) as error:
            _one_line(error)
            return outcome
        _promised(bits.dtype == np.uint8 and bits.ndim == 1 and bits.size > 0, "bits")
        return "message" if outcome == "KeyFileError" else outcome


class _File:
    """One file whose content is replaced: opening a new one for every input would take most of the time."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            self._descriptor = os.memfd_create("fuzz")
            self.path = Path(f"/proc/self/fd/{self._descriptor}")
        else:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            self.path = path
        weakref.finalize(self, os.close, self._descriptor)

    def hold(self, data: bytes) -> None:
        """Make ``data`` the content."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, data, 0)


def external_folder() -> Path:
    """A new folder of data files, good and bad, that the models of the external target refer to."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="onnxmark-fuzz-", dir=memory if os.access(memory, os.W_OK) else None))
    home = folder / "home"
    (home / "sub").mkdir(parents=True)
    (home / "dir").mkdir()
    for path in (home / "d", home / "sub" / "d", folder / "x", folder / "secret"):
        path.write_bytes(bytes(range(256)) * 4)
    (home / "empty").touch()
    (home / "loop").symlink_to("loop")
    (home / "out").symlink_to("../secret")
    (home / "up").symlink_to("..")
    (home / "soft").symlink_to("sub/d")
    (home / "hard").hardlink_to(home / "d")
    (home / "device").symlink_to("/dev/zero")
    os.mkfifo(home / "fifo")
    return home


def reader() -> Target:
    """The model reader."""
    return ModelFile()


def external() -> Target:
    """The model reader with data files around it."""
    home = external_folder()
    target = ModelFile(home / "m.onnx")
    weakref.finalize(target, shutil.rmtree, home.parent, ignore_errors=True)
    return target


def keys() -> Target:
    """The key loader."""
    return KeyFile()


TARGETS: Final[dict[str, Callable[[], Target]]] = {"reader": reader, "external": external, "keys": keys}


def _examined(path: Path) -> str:
    try:
        with open_model(path, LIMIT) as model:
            _ = (model.metadata, model.producer, model.opset, repr(model))
            return _listed(model)
    except ModelError as error:
        _one_line(error)
        return type(error).__name__


def _listed(model: Model) -> str:
    sites = model.sites()
    read = sum(_read(model, site) for site in sites)
    names = {site.name for site in sites}
    _promised(len(names) == len(sites), "names that are unique")
    return "no sites" if not sites else "read" if read == len(sites) else "read in part" if read else "none read"


def _read(model: Model, site: WeightSite) -> bool:
    try:
        model.folding(site)
        model.read_folded(site)
    except ModelError as error:
        _one_line(error)
    try:
        values = model.read(site).values
    except ModelError as error:
        _one_line(error)
        return False
    _promised(values.dtype == np.float32 and values.shape == site.shape, "float32 of the listed shape")
    _promised(values.size * 4 <= LIMIT and values.flags.c_contiguous, "weights within the limit")
    return True


def _one_line(error: OnnxmarkError) -> None:
    text = str(error)
    _promised(bool(text) and text.isprintable(), f"one printable line, not {text!r}")


def _quiet(noticed: list[warnings.WarningMessage]) -> None:
    _promised(not noticed, f"silence, not {[str(warning.message) for warning in noticed]}")


def _promised(kept: bool, what: str) -> None:
    if not kept:
        raise BrokenPromiseError(f"promised: {what[:2000]}")
