"""Mutated key files: headers of the right form with the wrong content, and data that fit them or nearly do."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from io import BytesIO
from typing import Final

import numpy as np

from fuzz.mutate import damaged
from onnxmark.keys import Carrier, Key, Secret, encode_key, premark_signature

_TYPES: Final = (
    "<f8", "<f4", "<f2", ">f8", "<i8", "<i4", "|i1", "|u1", "<u2", "<u4", "<u8", "|b1", "|S0", "|S1", "|S16", "<U3",
    "|O", "|V0", "|V4", "<c8", "<M8[s]", "<m8", "", "f8,f8", "(2,)f8", "2f4", "<f16", "<i3", "a5", "\\x00",
    "S99999999999",
)  # fmt: skip
_SHAPES: Final = (
    "()", "(1,)", "(2,)", "(32,)", "(2, 2)", "(4, 3)", "(0,)", "(0, 5)", "(1, 1)", "(1, 1, 1)", "(-1,)", "(-1, -1)",
    "(True,)", "(2.0,)", "('a',)", "None", "2", "(4611686018427387904, 4611686018427387904)",
    "(0, 4611686018427387904)", "(0, 18446744073709551616)", "(1048576, 524288)", "(1,) * 3", "((2,),)",
    "(1, 1, 1, 1, 1, 1, 1, 1)",
    "(1, 1, 1, 1, 1, 1, 1, 1, 1)", f"(0x{'f' * 5000}, 1)", f"(0, -0x{'f' * 5000})", f"({'1, ' * 100})",
    "(2L, 2L)", "(0, 4611686018427387904, 4611686018427387904)", "[2, 2]",
)  # fmt: skip
_VALUES: Final = (b"\0", b"\xff", b"\x01", b"\x7f\xf0", b"\xf0\x7f", b"\x80", b"\0\0\xc0\x7f")
_HEAVY: Final = (
    "-" * 50_000,
    "(" * 3000,
    "+1" * 20_000,
    "[" * 199 + "]" * 199,
    "1" * 50_000,
    "1," * 25_000,
    "0x" + "f" * 9000 + ",",
)


class KeyMutator:
    """Mutated key files, one after the other.

    Args:
        random: Where chance comes from.
    """

    def __init__(self, random: random.Random) -> None:
        self.random = random
        self._seeds = tuple(_split(seed) for seed in key_files())
        self._edits: tuple[Callable[[str, bytes], tuple[str, bytes]], ...] = (
            self._type, self._shape, self._field, self._drop, self._data, self._data, self._data, self._token,
            self._order, self._resized, self._value, self._value,
        )  # fmt: skip

    def next(self) -> bytes:
        """One more input."""
        random = self.random
        header, body = self._seeds[int(random.random() * len(self._seeds))]
        for _ in range(1 + int(random.random() * 2)):
            header, body = self._edits[int(random.random() * len(self._edits))](header, body)
        version = b"\x01\x00" if random.random() < 0.97 else random.choice((b"\x02\x00", b"\x03\x00", b"\x00\x01"))
        text = header.encode("latin1", "replace")[:60000]
        size = struct.pack("<H" if version[0] == 1 else "<I", len(text))
        data = b"\x93NUMPY" + version + size + text + body
        return damaged(data, random) if random.random() < 0.2 else data

    def keep(self, data: bytes) -> None:
        """Nothing: keys are short, and a few edits reach everywhere."""

    def _type(self, header: str, body: bytes) -> tuple[str, bytes]:
        parts = header.split("'")
        at = [i for i, part in enumerate(parts) if part[:1] in "<>|" and part[1:]]
        if at:
            parts[self.random.choice(at)] = self.random.choice(_TYPES)
        return "'".join(parts), body

    def _shape(self, header: str, body: bytes) -> tuple[str, bytes]:
        opened = [i for i, char in enumerate(header) if char == "(" and header[i + 1 : i + 2] != "'"]
        if not opened:
            return header, body
        at = opened[-1] if self.random.random() < 0.6 else self.random.choice(opened)
        end = header.find(")", at) + 1
        return header[:at] + self.random.choice(_SHAPES) + header[end:], body

    def _field(self, header: str, body: bytes) -> tuple[str, bytes]:
        """One more field, and data that keep the size right."""
        at = header.find("[") + 1
        name = self.random.choice(("parameter_x", "parameter_", "seed", "premark_x", "", "a\\nb", "\\x1b[1m"))
        kind, size = self.random.choice((("<f8", 8), ("<i8", 8), ("|S5", 5), ("|u1", 1), ("|b1", 1), ("|S1", 1)))
        shape = self.random.choice(("", ", ()", ", (1,)", ", (0,)", ", (1, 1)"))
        new = f"('{name}', '{kind}'{shape}), " * (1 if self.random.random() < 0.9 else 70)
        return header[:at] + new + header[at:], bytes(0 if "0" in shape else size) + body

    def _drop(self, header: str, body: bytes) -> tuple[str, bytes]:
        at = header.find("(", int(self.random.random() * len(header)))
        end = header.find("),", at) + 2
        return (header[:at] + header[end:], body) if 0 <= at < end else (header, body)

    def _data(self, header: str, body: bytes) -> tuple[str, bytes]:
        if not body:
            return header, body
        at = int(self.random.random() * len(body))
        new = self.random.choice(_VALUES) if self.random.random() < 0.5 else self.random.randbytes(1)
        return header, body[:at] + new + body[at + len(new) :]

    def _value(self, header: str, body: bytes) -> tuple[str, bytes]:
        """A run of equal bytes: whole numbers become huge, floats not numbers, text not UTF-8."""
        at, size = int(self.random.random() * (len(body) + 1)), self.random.choice((2, 4, 8, 32))
        size = min(size, len(body) - at)
        return header, body[:at] + self.random.choice((b"\xff", b"\0", b"\x7f", b"\n"))[:1] * size + body[at + size :]

    def _token(self, header: str, body: bytes) -> tuple[str, bytes]:
        at = int(self.random.random() * len(header))
        tokens = (
            "(" * 99, "1" * 99, "\\N{", "\\d", "'", '"', "\0", "{", "[" * 90, "#", "\\", "L", "'a' 'b'",
            "lambda: 0", "__import__('os')", "1e999", "'descr': 0, ", "True", "**{}", "f'{1}'", "\n", "1if 1else 2",
            "0x", "b''", "...", "'shape': (), ",
        )  # fmt: skip
        new = self.random.choice(tokens) if self.random.random() < 0.998 else self.random.choice(_HEAVY)
        return header[:at] + new + header[at + int(self.random.random() * 4) :], body

    def _order(self, header: str, body: bytes) -> tuple[str, bytes]:
        return header.replace("False", self.random.choice(("True", "1", "None", "'x'", "2"))), body

    def _resized(self, header: str, body: bytes) -> tuple[str, bytes]:
        chance = self.random.random()
        return header, body[: int(chance * len(body))] if chance < 0.5 else body + bytes(int(chance * 20))


def key_files() -> tuple[bytes, ...]:
    """A key with every field, one with few, matrices and messages."""
    shape, seed = (4, 2, 1, 1), Secret(bytes(range(32)))
    common = {"scheme": "projection", "seed": seed, "salt": bytes(32), "payload": np.ones(9, np.uint8)}
    carrier = Carrier(shape, "w", "n", "Conv", 0)
    signature = premark_signature(np.arange(8, dtype=np.float32).reshape(shape), seed)
    small = Key(**common, carriers=(carrier,), parameters={})  # type: ignore[arg-type]
    whole = Key(**common, carriers=(carrier,), parameters={"a": "b", "n": 1, "f": 0.5}, premark=signature)  # type: ignore[arg-type]
    arrays = (
        np.arange(12, dtype=np.float32).reshape(4, 3), np.asfortranarray(np.eye(3)), np.ones((2, 2), np.int8),
        np.ones(5, np.uint8), np.zeros((2, 2), np.bool_), np.ones((1, 3), ">f4"), np.zeros(3, "S4"),
    )  # fmt: skip
    return (encode_key(small), encode_key(whole), *(_saved(array) for array in arrays))


def _saved(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bytes:
    file = BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _split(data: bytes) -> tuple[str, bytes]:
    (size,) = struct.unpack_from("<H", data, 8)
    return data[10 : 10 + size].decode("latin1").rstrip() + "\n", data[10 + size :]
