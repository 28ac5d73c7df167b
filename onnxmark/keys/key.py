"""What a key is: our own, grown from a seed, or a foreign one, a matrix somebody brings along.

The difference decides what a match is worth. A seed was drawn before it met the weights, so a match has a probability;
a free matrix can be fitted to any weights in milliseconds, so a match shows that key and weights belong together and
nothing more.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from onnxmark.arrays import AnyArray, BitArray, Float64Array, frozen
from onnxmark.errors import KeyFileError, MessageError
from onnxmark.keys.derivation import SEED_BYTES, bits, master_secret
from onnxmark.keys.secret import Secret
from onnxmark.keys.signature import PremarkSignature

MAX_BITS: Final = 65536

Parameter = str | int | float


@dataclass(frozen=True, slots=True)
class Carrier:
    """The layer a key was made for, as it was when the key was made.

    Args:
        shape: Canonical shape of its weights, (out, in / group, *spatial).
        name: Name of the stored tensor; empty where the key was made from a shape alone.
        node: Name of the node that used it; may be empty.
        op: Operator; may be empty.
        position: Index among the model's weight sites, -1 where unknown.
    """

    shape: tuple[int, ...]
    name: str = ""
    node: str = ""
    op: str = ""
    position: int = -1


@dataclass(frozen=True, eq=False)
class Key:
    """A key grown from a seed.

    Args:
        scheme: Name of the watermarking scheme.
        seed: 32 secret bytes.
        salt: 32 random bytes, so that the commitment hides the rest.
        payload: The owner's bits before whitening, shape (T,), 0 or 1.
        carriers: The layers the key was made for, in the order in which the scheme reads them; none where it asks the
            model and reads no layer.
        parameters: What else the scheme needs to know, by name.
        premark: Statistics of the carrier before marking, where the model was at hand.
        commitment: SHA-256 of the key file, hexadecimal; empty until the key has been encoded.
        arrays: Numbers that the scheme needs and that no seed gives (inputs to ask the model, say), by name; made
            read-only.
    """

    scheme: str
    seed: Secret
    salt: bytes = field(repr=False)
    payload: BitArray = field(repr=False)
    carriers: tuple[Carrier, ...]
    parameters: Mapping[str, Parameter]
    premark: PremarkSignature | None = field(default=None, repr=False)
    commitment: str = ""
    arrays: Mapping[str, AnyArray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        frozen(self.payload)
        for array in self.arrays.values():
            frozen(array)
        if len(self.seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(self.seed)}")

    @property
    def n_bits(self) -> int:
        """Length T of the message."""
        return int(self.payload.size)

    @property
    def carrier(self) -> Carrier:
        """The layer of a key that was made for a single one.

        Raises:
            KeyFileError: It was made for none or for several.
        """
        if len(self.carriers) != 1:
            raise KeyFileError(f"a {self.scheme} key made for one layer is expected, this one has {len(self.carriers)}")
        return self.carriers[0]

    @property
    def origin(self) -> str:
        """``seed``: drawn before it met any weights."""
        return "seed"

    @cached_property
    def master(self) -> Secret:
        """The stretched secret all of the key's streams start from (a tenth of a second, once)."""
        return self.stretched()

    def stretched(self) -> Secret:
        """The stretched secret, derived anew; other threads run meanwhile.

        Everything else in the key is bound into it: with another payload, layer, parameter, array or memory of the
        layer's past it is another secret. Otherwise whoever has a model in view could choose the payload that the model
        happens to say; so each choice is one more draw from the null, and has to be stretched anew.
        """
        return master_secret(self.seed, self.salt, f"{self.scheme}|{self.n_bits}|{fingerprint(self)}")

    @cached_property
    def message(self) -> BitArray:
        """The bits that are embedded: payload XOR keystream, shape (T,).

        Whitening makes every bit a fair coin that knows nothing of the weights; the null distribution then holds
        exactly, whatever the weights are.
        """
        return frozen(self.payload ^ bits(self.master, "message", 0, self.n_bits))


@dataclass(frozen=True, eq=False)
class ForeignKey:
    """A projection matrix made elsewhere, with the bits that belong to it.

    Args:
        matrix: 2-D, float64, finite; which axis counts the bits is told from the layer.
        bits: The message, shape (T,), 0 or 1; None means all ones.
        source: File it came from, for messages and reports.
        commitment: SHA-256 of the matrix file, hexadecimal.
    """

    matrix: Float64Array = field(repr=False)
    bits: BitArray | None = field(repr=False)
    source: str
    commitment: str

    @property
    def scheme(self) -> str:
        """Foreign matrices are read as Uchida's projection."""
        return "projection"

    @property
    def origin(self) -> str:
        """``matrix``: may have been fitted to the weights."""
        return "matrix"

    def message(self, n_bits: int) -> BitArray:
        """The message of ``n_bits`` bits.

        Raises:
            MessageError: The bits given are of another number.
        """
        if self.bits is None:
            return frozen(np.ones(n_bits, dtype=np.uint8))
        if self.bits.size != n_bits:
            raise MessageError(f"the message has {self.bits.size} bits and the key {self.source!r} {n_bits}")
        return self.bits


AnyKey = Key | ForeignKey


def fingerprint(key: Key) -> str:
    """SHA-256 of everything in a key but its seed and salt, hexadecimal; the same before and after it was filed."""
    told = {
        "scheme": key.scheme,
        "payload": [key.n_bits, np.packbits(key.payload, bitorder="little").tobytes().hex()],
        # A record of NumPy's keeps no zeros at the end of a text.
        "carriers": [
            [list(map(int, one.shape)), *(text.rstrip("\0") for text in (one.name, one.node, one.op)), one.position]
            for one in key.carriers
        ],
        "parameters": dict(key.parameters),
        "arrays": {name: _digest(array) for name, array in key.arrays.items()},
        "premark": None if key.premark is None else _digests(key.premark),
    }
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _digests(past: PremarkSignature) -> dict[str, str]:
    return {"sha256": past.sha256.hex(), **{name: _digest(array) for name, array in past.arrays.items()}}


def _digest(array: AnyArray) -> str:
    filed = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return hashlib.sha256(f"{filed.dtype.str}|{filed.shape}|".encode() + filed.tobytes()).hexdigest()


def draw_secret_parts() -> tuple[Secret, bytes]:
    """A fresh seed and salt from the operating system's generator, 32 bytes each."""
    return Secret(secrets.token_bytes(SEED_BYTES)), secrets.token_bytes(SEED_BYTES)


def as_bits(values: AnyArray, where: str) -> BitArray:
    """A message from an array of any shape that holds zeros and ones only, shape (T,), uint8.

    Raises:
        MessageError: Some value is neither 0 nor 1, or there are none or too many.
    """
    flat = values.reshape(-1)
    if flat.dtype.kind not in "biuf":
        raise MessageError(f"{where} must hold zeros and ones, not {flat.dtype}")
    if not 1 <= flat.size <= MAX_BITS:
        raise MessageError(f"{where} has {flat.size:,} bits; a message has 1 to {MAX_BITS:,}")
    with np.errstate(invalid="ignore"):
        plain = bool(np.isin(flat, (0, 1)).all())
    if not plain:
        raise MessageError(f"{where} must hold zeros and ones only")
    return frozen(flat.astype(np.uint8))


def commitment_of(data: bytes) -> str:
    """SHA-256 of a key file's bytes, hexadecimal: what ``sha256sum key.npy`` prints."""
    return hashlib.sha256(data).hexdigest()


def check_bits(n_bits: int) -> None:
    """Refuse a message length no key can have.

    Raises:
        KeyFileError: Not between 1 and 65,536.
    """
    if not 1 <= n_bits <= MAX_BITS:
        raise KeyFileError(f"a key carries 1 to {MAX_BITS:,} bits, not {n_bits:,}")
