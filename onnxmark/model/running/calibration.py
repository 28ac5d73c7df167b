"""Sample inputs of a model, from the file to batches that fit its signature: the only data onnxmark ever asks for.

A few hundred unlabelled inputs are enough, and they come from anybody: so the file is read without pickle, and every
way in which it may not fit the model is told apart before a runtime sees it, in words that name the model's own inputs.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from onnxmark.arrays import AnyArray, Int64Array, frozen
from onnxmark.errors import CalibrationError

LABELS: Final = "labels"
"""Name of the array of class indices, unless the model has an input of that name."""
BATCH_SIZE: Final = 64
_MAX_BYTES: Final = 8 << 30
_NUMBERS: Final = "biuf"


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What a model says about one of its inputs.

    Args:
        name: Its name.
        dtype: Element type.
        shape: Sizes, None where the model leaves them open; the first axis is the batch.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = "x".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name!r} ({self.dtype} {sizes or 'scalar'})"


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Arrays as a calibration file holds them.

    Args:
        arrays: By name, read-only; the only name is empty where the file is a single ``.npy`` array.
        source: The file, for messages.
    """

    arrays: Mapping[str, AnyArray]
    source: str

    def __post_init__(self) -> None:
        for array in self.arrays.values():
            frozen(array)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One feed of the model.

    Args:
        feed: Arrays by input name.
        start: Index of the first input.
        count: Inputs in it; rows beyond are padding for a model with a fixed batch.
        size: Rows fed.
    """

    feed: dict[str, AnyArray]
    start: int
    count: int
    size: int

    def cut(self, array: AnyArray) -> AnyArray:
        """``array`` without what belongs to padding, for an array whose first axis runs over inputs, in order."""
        if self.count == self.size or array.ndim == 0 or len(array) % self.size:
            return array
        return array[: len(array) // self.size * self.count]


@dataclass(frozen=True, slots=True, eq=False)
class BoundCalibration:
    """Calibration inputs that fit a model.

    Args:
        feed: All inputs, by the model's names and in its element types; a scalar has no batch axis.
        labels: Class indices, shape (n_inputs,), or None.
        n_inputs: Number of inputs, at least 1.
        fixed_batch: The batch the model insists on, or None.
    """

    feed: Mapping[str, AnyArray]
    labels: Int64Array | None
    n_inputs: int
    fixed_batch: int | None

    def batches(self, size: int = BATCH_SIZE) -> Iterator[Batch]:
        """All inputs in order, ``size`` at a time or as many as the model insists on."""
        step = self.fixed_batch or min(size, self.n_inputs)
        for start in range(0, self.n_inputs, step):
            count = min(step, self.n_inputs - start)
            rows = step if self.fixed_batch else count
            # The last input is repeated where a fixed batch is not full.
            index = np.minimum(np.arange(start, start + rows), self.n_inputs - 1)
            feed = {name: array[index] if array.ndim else array for name, array in self.feed.items()}
            yield Batch(feed, start, count, rows)


def load_calibration(path: Path | str, labels: Path | str | None = None) -> Calibration:
    """Read a calibration file.

    Args:
        path: An ``.npz`` whose arrays are model inputs by name, optionally with ``labels``, or an ``.npy`` with the one
            input of the model. The first axis is the batch.
        labels: A file of its own for the class indices, ``.npy`` or an ``.npz`` of one array; it takes precedence.

    Raises:
        CalibrationError: The file is missing, not what its name says, holds objects, or is larger than 8 GiB.
    """
    arrays = _arrays(Path(path))
    if labels is not None:
        arrays[LABELS] = load_array(labels)
    return Calibration(arrays, str(path))


def load_array(path: Path | str) -> AnyArray:
    """The one array of a file, ``.npy`` or an ``.npz`` that holds no other.

    Raises:
        CalibrationError: As for :func:`load_calibration`, or there are several.
    """
    alone = _arrays(Path(path))
    if len(alone) != 1:
        raise CalibrationError(f"{str(path)!r}: expected one array, found {', '.join(map(repr, alone))}")
    return next(iter(alone.values()))


def _arrays(path: Path) -> dict[str, AnyArray]:
    where = f"calibration file {str(path)!r}"
    if not path.is_file():
        raise CalibrationError(f"{where}: no such file; give an .npz of model inputs by name, or an .npy of one input")
    try:
        # Opened here, because NumPy leaves the file open when the archive is broken.
        with path.open("rb") as file:
            arrays = _read(np.load(file, allow_pickle=False), where)
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        raise CalibrationError(f"{where}: not a readable .npz or .npy of numbers ({_first_line(error)})") from error
    if not arrays:
        raise CalibrationError(f"{where}: holds no arrays")
    return arrays


def _read(loaded: Any, where: str) -> dict[str, AnyArray]:
    if isinstance(loaded, np.ndarray):
        return {"": loaded}
    with loaded:
        if sum(member.file_size for member in loaded.zip.infolist()) > _MAX_BYTES:
            raise CalibrationError(f"{where}: holds more than 8 GiB; a few hundred inputs are enough")
        return {name: loaded[name] for name in loaded.files}


def bind(calibration: Calibration, inputs: tuple[ModelInput, ...]) -> BoundCalibration:
    """Fit calibration arrays to the inputs of a model.

    Raises:
        CalibrationError: A name, rank, size, element type or value does not fit; says which inputs the model has.
    """
    arrays, labels = _assign(calibration, inputs)
    feed = {item.name: _fit(arrays[item.name], item, calibration.source) for item in inputs}
    counts = {name: len(array) for name, array in feed.items() if array.ndim}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        found = ", ".join(f"{name!r} {count}" for name, count in counts.items()) or "only scalars"
        raise CalibrationError(f"{calibration.source!r}: inputs must share one batch of at least 1; found {found}")
    n_inputs = next(iter(counts.values()))
    fixed = {item.shape[0] for item in inputs if item.shape} - {None}
    if len(fixed) > 1:
        raise CalibrationError(f"the model's inputs insist on different batches: {_listing(inputs)}")
    bound_labels = None if labels is None else _fit_labels(labels, n_inputs, calibration.source)
    return BoundCalibration(feed, bound_labels, n_inputs, next(iter(fixed), None))


def _assign(calibration: Calibration, inputs: tuple[ModelInput, ...]) -> tuple[Mapping[str, AnyArray], AnyArray | None]:
    """Arrays by the model's names, and the labels."""
    names = {item.name for item in inputs}
    arrays = dict(calibration.arrays)
    labels = None if LABELS in names else arrays.pop(LABELS, None)
    if len(inputs) == 1 and len(arrays) == 1:
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    if set(arrays) != names:
        found = ", ".join(map(repr, arrays)) or "none"
        raise CalibrationError(f"{calibration.source!r}: has arrays {found}; the model's inputs are {_listing(inputs)}")
    return arrays, labels


def _fit(array: AnyArray, item: ModelInput, source: str) -> AnyArray:
    """One array in the element type of its input."""
    where = f"{source!r}: input {item.name!r}"
    if array.dtype.kind not in _NUMBERS:
        raise CalibrationError(f"{where}: elements are {array.dtype}, not numbers")
    wrong = array.ndim != len(item.shape) or any(
        want is not None and want != size for want, size in zip(item.shape[1:], array.shape[1:], strict=False)
    )
    if wrong:
        raise CalibrationError(
            f"{where}: has shape {array.shape}; the model wants {item}, the first axis being the batch"
        )
    if not np.isfinite(array).all():
        raise CalibrationError(f"{where}: holds values that are not finite")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(item.dtype)
    kept = np.isfinite(cast).all() if item.dtype.kind == "f" else np.array_equal(cast, array)
    if not kept:
        raise CalibrationError(f"{where}: {array.dtype} values do not fit the model's {item.dtype}")
    return cast


def _fit_labels(labels: AnyArray, n_inputs: int, source: str) -> Int64Array:
    flat = labels.reshape(-1) if labels.shape in ((n_inputs,), (n_inputs, 1)) else None
    if flat is None or flat.dtype.kind not in "biu":
        raise CalibrationError(
            f"{source!r}: labels must be {n_inputs} class indices, not {labels.dtype} of shape {labels.shape}"
        )
    return frozen(flat.astype(np.int64))


def _listing(inputs: tuple[ModelInput, ...]) -> str:
    return ", ".join(map(str, inputs)) or "none at all"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
