"""The key file: one NumPy record with named fields, written once, read for ever, never unpickled.

``numpy.load("key.npy")["seed"]`` works without onnxmark. The SHA-256 of the file is the key's commitment: anyone checks
it with ``sha256sum``, and a time stamp on it dates the key.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np

from onnxmark.arrays import AnyArray, BitArray
from onnxmark.errors import KeyFileError
from onnxmark.keys.derivation import SCRYPT_N, SCRYPT_P, SCRYPT_R, SEED_BYTES
from onnxmark.keys.key import AnyKey, Carrier, ForeignKey, Key, Parameter, as_bits, check_bits, commitment_of
from onnxmark.keys.npy import parse_npy, read_key_bytes
from onnxmark.keys.secret import Secret
from onnxmark.keys.signature import PremarkSignature

MAGIC: Final = b"onnxmark-key"
VERSION: Final = 2
"""In the first version a payload could be chosen with the suspect in view: its keys prove nothing."""

_PARAMETER: Final = "parameter_"
_ARRAY: Final = "array_"
_REQUIRED: Final = ("magic", "version", "scheme", "seed", "salt", "kdf", "kdf_n", "kdf_r", "kdf_p", "n_bits", "payload")
_ONE_CARRIER: Final = ("carrier_name", "carrier_node", "carrier_op", "carrier_position", "carrier_shape")
_CARRIERS: Final = "carriers"
"""In place of the fields above where a key was made for no layer or for several: a JSON list."""
_MAX_CARRIERS: Final = 4096
_PREMARK: Final = "premark_"
_PREMARK_TYPES: Final = {
    "input_profile": "<f2",
    "input_sketch": "<f2",
    "input_scale": "<f4",
    "output_sketch": "<f2",
    "output_scale": "<f4",
    "output_norm": "<f4",
}


def _text(value: str) -> tuple[AnyArray, str, tuple[int, ...]]:
    data = value.encode("utf-8", "surrogateescape")
    return np.bytes_(data), f"S{max(len(data), 1)}", ()  # type: ignore[return-value]


def _array(value: AnyArray | bytes | tuple[int, ...], dtype: str) -> tuple[AnyArray, str, tuple[int, ...]]:
    array = np.frombuffer(value, dtype="u1") if isinstance(value, bytes) else np.asarray(value, dtype=dtype)
    return array, dtype, array.shape


def _parameter(value: Parameter) -> tuple[AnyArray, str, tuple[int, ...]]:
    if isinstance(value, str):
        return _text(value)
    return _array(np.asarray(value), "<i8" if isinstance(value, int) else "<f8")


def encode_key(key: Key) -> bytes:
    """The bytes of the key file. The same key gives the same bytes."""
    fields = {
        "magic": (np.bytes_(MAGIC), "S16", ()),
        "version": (np.asarray(VERSION), "<u2", ()),
        "scheme": _text(key.scheme),
        "seed": _array(key.seed.reveal(), "u1"),
        "salt": _array(key.salt, "u1"),
        "kdf": _text("scrypt"),
        "kdf_n": (np.asarray(SCRYPT_N), "<u4", ()),
        "kdf_r": (np.asarray(SCRYPT_R), "<u4", ()),
        "kdf_p": (np.asarray(SCRYPT_P), "<u4", ()),
        "n_bits": (np.asarray(key.n_bits), "<u4", ()),
        "payload": _array(np.packbits(key.payload, bitorder="little"), "u1"),
        **_encode_carriers(key.carriers),
        **{_PARAMETER + name: _parameter(key.parameters[name]) for name in sorted(key.parameters)},
        **{_ARRAY + name: _plain(key.arrays[name]) for name in sorted(key.arrays)},
    }
    if key.premark is not None:
        fields[f"{_PREMARK}sha256"] = _array(key.premark.sha256, "u1")
        fields |= {_PREMARK + name: _plain(array) for name, array in key.premark.arrays.items()}
    record = np.zeros((), dtype=[(name, dtype, shape) for name, (_, dtype, shape) in fields.items()])
    for name, (value, _, _) in fields.items():
        record[name] = value
    file = BytesIO()
    np.lib.format.write_array(file, record, version=(1, 0), allow_pickle=False)
    return file.getvalue()


def _encode_carriers(carriers: Sequence[Carrier]) -> dict[str, tuple[AnyArray, str, tuple[int, ...]]]:
    if len(carriers) != 1:
        return {_CARRIERS: _text(json.dumps([asdict(carrier) for carrier in carriers]))}
    (carrier,) = carriers
    return {
        "carrier_name": _text(carrier.name),
        "carrier_node": _text(carrier.node),
        "carrier_op": _text(carrier.op),
        "carrier_position": (np.asarray(carrier.position), "<i4", ()),
        "carrier_shape": _array(carrier.shape, "<i8"),
    }


def _plain(array: AnyArray) -> tuple[AnyArray, str, tuple[int, ...]]:
    return _array(array, array.dtype.newbyteorder("<").str)


def save_key(key: Key, path: Path) -> Key:
    """Write a key file readable by its owner only (mode 0600), never over another file.

    Returns:
        The key with its commitment filled in.

    Raises:
        KeyFileError: The file exists or cannot be written.
    """
    data = encode_key(key)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise KeyFileError(f"{str(path)!r} exists; a lost key is a lost mark, so keys are never overwritten") from error
    except (OSError, ValueError) as error:
        raise KeyFileError(f"key file {str(path)!r} cannot be written: {error}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return replace(key, commitment=commitment_of(data))


def load_key(path: Path | str, message: Path | str | None = None) -> AnyKey:
    """A key from a file: our record, or a plain 2-D matrix of numbers as a foreign key.

    Args:
        path: The key file.
        message: For a foreign key, a ``.npy`` file of its bits (0 or 1, any shape); all ones where it is not given.

    Raises:
        KeyFileError: The file cannot be used, or a message was given for a key that holds its own.
        MessageError: The message file does not hold zeros and ones.
    """
    path = Path(path)
    where = f"key file {str(path)!r}"
    data = read_key_bytes(path)
    array = parse_npy(data, where)
    if array.dtype.names is not None:
        if message is not None:
            raise KeyFileError(f"{where} holds its own message; --message is for matrices made elsewhere")
        return _decode(array, where, commitment_of(data))
    return _foreign(array, where, path, commitment_of(data), None if message is None else Path(message))


def load_message(path: Path | str) -> BitArray:
    """Message bits from a ``.npy`` file of zeros and ones, any shape, to shape (T,).

    Raises:
        KeyFileError: The file cannot be read.
        MessageError: It holds something else than zeros and ones.
    """
    label = f"message file {str(path)!r}"
    return as_bits(parse_npy(read_key_bytes(Path(path)), label), label)


def _foreign(array: AnyArray, where: str, path: Path, commitment: str, message: Path | None) -> ForeignKey:
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "iuf":
        raise KeyFileError(
            f"{where} holds {array.dtype} of shape {array.shape}; a key is an onnxmark record or a 2-D matrix of "
            "numbers"
        )
    # A signalling NaN warns when it is cast; it is refused below.
    with np.errstate(invalid="ignore"):
        matrix = array.astype(np.float64)
    if not np.isfinite(matrix).all():
        raise KeyFileError(f"{where} holds values that are not finite")
    bits = None if message is None else load_message(message)
    return ForeignKey(matrix=matrix, bits=bits, source=path.name, commitment=commitment)


def _decode(array: AnyArray, where: str, commitment: str) -> Key:
    names = array.dtype.names or ()
    needed = (*_REQUIRED, *(() if _CARRIERS in names else _ONE_CARRIER))
    missing = [name for name in needed if name not in names]
    if array.shape != () or missing:
        detail = f"fields missing: {', '.join(missing)}" if missing else f"shape {array.shape}"
        raise KeyFileError(f"{where} is not an onnxmark key ({detail})")
    record: dict[str, Any] = {name: array[name] for name in names}
    if record["magic"].tobytes().rstrip(b"\0") != MAGIC:
        raise KeyFileError(f"{where} is not an onnxmark key (wrong magic)")
    try:
        return _from_record(record, where, commitment)
    except (ValueError, TypeError, OverflowError, UnicodeError) as error:
        raise KeyFileError(f"{where} holds a field that makes no sense: {error}") from error


def _from_record(record: dict[str, Any], where: str, commitment: str) -> Key:
    version = _integer(record["version"])
    if version != VERSION:
        what = "Upgrade onnxmark" if version > VERSION else "Make a new key ('onnxmark keygen') and mark with that"
        raise KeyFileError(f"{where} is of key format {version}; this onnxmark reads format {VERSION}. {what}")
    kdf = (_string(record["kdf"]), *(_integer(record[name]) for name in ("kdf_n", "kdf_r", "kdf_p")))
    if kdf != ("scrypt", SCRYPT_N, SCRYPT_R, SCRYPT_P):
        raise KeyFileError(f"{where} asks for the key derivation {kdf}; format {VERSION} knows scrypt 32768/8/1 only")
    n_bits = _integer(record["n_bits"])
    check_bits(n_bits)
    payload = np.asarray(record["payload"])
    if payload.dtype != np.uint8 or payload.shape != (-(-n_bits // 8),):
        raise KeyFileError(f"{where} declares {n_bits} bits and stores {payload.size} bytes of them")
    carriers = _carriers(record)
    return Key(
        scheme=_string(record["scheme"]),
        seed=Secret(_bytes(record["seed"], "seed")),
        salt=_bytes(record["salt"], "salt"),
        payload=np.unpackbits(payload, count=n_bits, bitorder="little"),
        carriers=carriers,
        parameters={
            name.removeprefix(_PARAMETER): _parameter_value(value)
            for name, value in record.items()
            if name.startswith(_PARAMETER)
        },
        arrays={
            name.removeprefix(_ARRAY): np.array(value) for name, value in record.items() if name.startswith(_ARRAY)
        },
        premark=_premark(record, carriers),
        commitment=commitment,
    )


def _carriers(record: dict[str, Any]) -> tuple[Carrier, ...]:
    if _CARRIERS in record:
        return _listed_carriers(_string(record[_CARRIERS]))
    stored = np.asarray(record["carrier_shape"])
    if stored.dtype.kind not in "iu":
        raise ValueError(f"carrier shape of {stored.size} axes of type {stored.dtype}")
    carrier = Carrier(
        shape=_shape(stored.reshape(-1).tolist()),
        name=_string(record["carrier_name"]),
        node=_string(record["carrier_node"]),
        op=_string(record["carrier_op"]),
        position=_integer(record["carrier_position"]),
    )
    return (carrier,)


def _listed_carriers(text: str) -> tuple[Carrier, ...]:
    try:
        listed = json.loads(text)
    except RecursionError as error:
        raise ValueError("carriers nested too deeply") from error
    if not isinstance(listed, list) or len(listed) > _MAX_CARRIERS:
        raise ValueError(f"carriers must be a list of at most {_MAX_CARRIERS:,}")
    return tuple(_listed_carrier(entry) for entry in listed)


def _listed_carrier(entry: Any) -> Carrier:
    types = {"shape": list, "name": str, "node": str, "op": str, "position": int}
    if not isinstance(entry, dict) or {name: type(value) for name, value in entry.items()} != types:
        raise ValueError(f"a carrier has the fields {', '.join(types)}")
    if not all(type(size) is int for size in entry["shape"]):
        raise ValueError("carrier shape of something else than whole numbers")
    if not -(2**31) <= entry["position"] < 2**31:
        raise ValueError(f"carrier position {entry['position']}")
    return Carrier(**{**entry, "shape": _shape(entry["shape"])})


def _shape(sizes: Sequence[int]) -> tuple[int, ...]:
    if not 2 <= len(sizes) <= 8:
        raise ValueError(f"carrier shape of {len(sizes)} axes")
    shape = tuple(int(size) for size in sizes)
    if any(size < 1 for size in shape) or math.prod(shape) >= 2**40:
        raise ValueError(f"carrier shape {shape}")
    return shape


def _premark(record: dict[str, Any], carriers: tuple[Carrier, ...]) -> PremarkSignature | None:
    if not any(name.startswith(_PREMARK) for name in record):
        return None
    types = {
        name.removeprefix(_PREMARK): value.dtype.str for name, value in record.items() if name.startswith(_PREMARK)
    }
    if types != {"sha256": "|u1", **_PREMARK_TYPES}:
        raise ValueError("the pre-mark signature has other fields than it should")
    arrays = {name: np.array(record[_PREMARK + name]) for name in _PREMARK_TYPES}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("the pre-mark signature is not finite")
    past = PremarkSignature(sha256=_bytes(record[f"{_PREMARK}sha256"], f"{_PREMARK}sha256"), **arrays)
    if len(carriers) != 1 or not past.describes(carriers[0].shape):
        raise ValueError("the pre-mark signature is of a layer of another shape")
    return past


def _bytes(value: AnyArray, name: str) -> bytes:
    if value.dtype != np.uint8 or value.shape != (SEED_BYTES,):
        raise ValueError(f"{name} must be {SEED_BYTES} bytes")
    return value.tobytes()


def _string(value: AnyArray) -> str:
    if value.dtype.kind != "S" or value.shape != ():
        raise ValueError("text expected")
    return bytes(value[()]).decode("utf-8", "surrogateescape")


def _integer(value: AnyArray) -> int:
    if value.dtype.kind not in "iu" or value.shape != ():
        raise ValueError("a whole number expected")
    return int(value)


def _parameter_value(value: AnyArray) -> Parameter:
    if value.dtype.kind == "S":
        return _string(value)
    if value.shape != ():
        raise ValueError("a parameter is one number or text")
    return int(value) if value.dtype.kind in "iu" else float(value)
