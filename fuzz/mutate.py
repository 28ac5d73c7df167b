"""Mutations that know what they mutate: a field is dropped, doubled, moved or spliced, and the lengths around it hold.

One input in three is also damaged blindly, which is what reaches the wire format itself. Inputs that were read
successfully come back as parents, so that edits add up.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from fuzz.protobuf import BYTES, VARINT, Place, field, places, replaced, varint

MAX_BYTES: Final = 20_000
_POOL: Final = 400

_NUMBERS: Final[tuple[int, ...]] = (
    *range(30), 63, 64, 65, 127, 128, 255, 256, 4095, 4096, 4097, 65535, 65536, 1 << 20, (1 << 31) - 1, 1 << 31,
    (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 2, (1 << 64) - 1,
)  # fmt: skip
_TEXTS: Final = (
    b"", b"w", b"x", b"y", b"\0", b"\xff\xfe", b"a\nb", b"\x1b[31m", b"\xe2\x80\xa8", b"..", b"../x", b"/etc/passwd",
    b"C:\\d", b"d", b"./d", b"sub/d", b"loop", b"fifo", b"dir", b"out", b"hard", b"-1", b"0", b"1", b"16", b"864",
    b"9999999999999999999", b"99999999999999999999", b" 4", b"4_0", b"location", b"offset", b"length", b"checksum",
    b"Conv", b"ConvTranspose", b"Gemm", b"MatMul", b"Constant", b"ConstantOfShape", b"Identity", b"Cast", b"CastLike",
    b"Transpose", b"Reshape", b"Squeeze", b"Unsqueeze", b"Flatten", b"Concat", b"Slice", b"Expand", b"Shape", b"Add",
    b"Sub", b"Mul", b"Div", b"Neg", b"Sqrt", b"QuantizeLinear", b"DequantizeLinear", b"If", b"Loop", b"Scan", b"F",
    b"BatchNormalization", b"ConvInteger", b"QLinearConv", b"MatMulInteger", b"MatMulNBits", b"FusedConv", b"NhwcConv",
    b"Pad", b"Gather", b"Tile", b"Pow", b"Split", b"com.microsoft", b"com.microsoft.nchwc", b"ai.onnx", b"f",
    b"axis", b"axes", b"perm", b"to", b"shape", b"value", b"value_ints", b"value_floats", b"value_float", b"value_int",
    b"sparse_value", b"group", b"transB", b"block_size", b"output_dtype", b"starts", b"ends", b"steps", b"allowzero",
    b"K", b"N", b"bits", b"FusedMatMul", b"QGemm", b"DynamicQuantizeMatMul", b"saturate", b"epsilon", b"then_branch",
)  # fmt: skip

Edit = Callable[[bytes, Place], bytes]


class Mutator:
    """Mutated models, one after the other.

    Args:
        seeds: Models to start from.
        random: Where chance comes from.
    """

    def __init__(self, seeds: Sequence[bytes], random: random.Random) -> None:
        self.random = random
        self._pool = [(seed, places(seed)) for seed in seeds if len(seed) <= MAX_BYTES]
        self._seeds = len(self._pool)
        self._bank: dict[str, list[bytes]] = defaultdict(list)
        self._leaves: dict[tuple[str, int], list[bytes]] = defaultdict(list)
        for seed, found in self._pool:
            self._deposit(seed, found)
        self._edits: tuple[Edit, ...] = (
            self._number, self._number, self._text, self._text, self._text, self._drop, self._double, self._move,
            self._splice, self._splice, self._insert, self._split, self._unknown, self._empty, self._list, self._nest,
        )  # fmt: skip

    def next(self) -> bytes:
        """One more input."""
        random = self.random
        chance = random.random()
        # The seeds stay half of all parents, or the pool would drift to whatever is shortest to read.
        top = self._seeds if chance < 0.5 else len(self._pool)
        return self.changed(*self._pool[int(random.random() * top)])

    def changed(self, data: bytes, found: Sequence[Place]) -> bytes:
        """A mutation of ``data``, whose fields are ``found``."""
        random = self.random
        chance = random.random()
        if chance > 0.15 and found:
            place = found[int(random.random() * len(found))]
            data = self._edits[int(random.random() * len(self._edits))](data, place)
        if chance < 0.35:
            data = self._damaged(data)
        return data[:MAX_BYTES]

    def keep(self, data: bytes) -> None:
        """Take ``data`` among the parents, in place of an earlier offspring once there are many."""
        entry = (data, places(data))
        if len(self._pool) < self._seeds + _POOL:
            self._pool.append(entry)
        else:
            self._pool[self._seeds + int(self.random.random() * _POOL)] = entry

    def _deposit(self, data: bytes, found: list[Place]) -> None:
        for place in found:
            if place.child:
                self._bank[place.child].append(data[place.value : place.end])
            elif place.wire == BYTES:
                self._leaves[(place.owner, place.number)].append(data[place.value : place.end])

    def _one(self, items: Sequence[bytes]) -> bytes:
        return items[int(self.random.random() * len(items))] if items else b""

    def _some_number(self) -> int:
        random = self.random
        if random.random() < 0.8:
            return _NUMBERS[int(random.random() * len(_NUMBERS))]
        return random.getrandbits(int(random.random() * 64) + 1)

    def _encoded(self) -> bytes:
        return varint(self._some_number(), 0 if self.random.random() < 0.93 else int(self.random.random() * 10))

    def _number(self, data: bytes, place: Place) -> bytes:
        if place.wire != VARINT:
            return self._list(data, place)
        return replaced(data, place.value, place.end, self._encoded(), place.ancestors)

    def _text(self, data: bytes, place: Place) -> bytes:
        if place.wire != BYTES or place.child:
            return self._splice(data, place)
        chance = self.random.random()
        if chance < 0.6:
            new = self._one(self._leaves[(place.owner, place.number)])
        elif chance < 0.85:
            new = self._one(_TEXTS)
        elif chance < 0.95:
            new = data[place.value : place.end][: int(self.random.random() * 8)]
        else:
            new = data[place.value : place.end] * 2
        return self._with(data, place, new)

    def _drop(self, data: bytes, place: Place) -> bytes:
        return replaced(data, place.start, place.end, b"", place.ancestors)

    def _double(self, data: bytes, place: Place) -> bytes:
        times = 2 if self.random.random() < 0.9 else int(self.random.random() * 40)
        return replaced(data, place.start, place.end, data[place.start : place.end] * times, place.ancestors)

    def _move(self, data: bytes, place: Place) -> bytes:
        """To the front of its message."""
        if not place.ancestors:
            return self._double(data, place)
        _, first, _ = place.ancestors[0]
        new = data[place.start : place.end] + data[first : place.start]
        return replaced(data, first, place.end, new, place.ancestors)

    def _splice(self, data: bytes, place: Place) -> bytes:
        if not place.child:
            return self._number(data, place) if place.wire == VARINT else self._empty(data, place)
        kind = place.child if self.random.random() < 0.95 else self.random.choice(list(self._bank))
        return self._with(data, place, self._one(self._bank[kind]))

    def _insert(self, data: bytes, place: Place) -> bytes:
        """Another of its kind before it."""
        if not place.child:
            return self._double(data, place)
        new = field(place.number, BYTES, self._one(self._bank[place.child]))
        return replaced(data, place.start, place.start, new, place.ancestors)

    def _split(self, data: bytes, place: Place) -> bytes:
        """A message in two occurrences, which protobuf merges."""
        body = data[place.value : place.end]
        cut = int(self.random.random() * (len(body) + 1))
        new = field(place.number, BYTES, body[:cut]) + field(place.number, BYTES, body[cut:])
        return replaced(data, place.start, place.end, new, place.ancestors)

    def _unknown(self, data: bytes, place: Place) -> bytes:
        """A field nobody knows, or a group, before it."""
        number = 100 + int(self.random.random() * 900)
        chance = self.random.random()
        if chance < 0.3:
            new = varint(number << 3 | 3) + data[place.start : place.end] + varint(number << 3 | 4)
        elif chance < 0.6:
            new = field(number, BYTES, self._one(_TEXTS)) * int(self.random.random() * 60)
        else:
            new = field(place.number, int(self.random.random() * 8), self._encoded())
        return replaced(data, place.start, place.start, new, place.ancestors)

    def _empty(self, data: bytes, place: Place) -> bytes:
        return self._with(data, place, b"")

    def _list(self, data: bytes, place: Place) -> bytes:
        """The field as a packed list of numbers, or as so many bytes."""
        if self.random.random() < 0.3:
            return self._with(data, place, bytes(int(self.random.random() * 80)))
        return self._with(data, place, b"".join(self._encoded() for _ in range(int(self.random.random() * 6))))

    def _nest(self, data: bytes, place: Place) -> bytes:
        """A graph inside an attribute of a node, a few times over."""
        if place.owner != "Node":
            return self._insert(data, place)
        graph = self._one(self._bank["Graph"])
        for _ in range(int(self.random.random() * 4) + 1):
            attribute = field(1, BYTES, b"then_branch") + field(6, BYTES, graph)
            graph = field(1, BYTES, field(4, BYTES, b"If") + field(5, BYTES, attribute))
        return replaced(data, place.start, place.start, field(5, BYTES, attribute), place.ancestors)

    def _with(self, data: bytes, place: Place, value: bytes) -> bytes:
        return replaced(data, place.start, place.end, field(place.number, BYTES, value), place.ancestors)

    def _damaged(self, data: bytes) -> bytes:
        return damaged(data, self.random)


def damaged(data: bytes, random: random.Random) -> bytes:
    """``data`` with a few bytes changed, put in or taken away, cut off, or followed by more."""
    out = bytearray(data)
    for _ in range(1 + int(random.random() * 3)):
        size = len(out)
        at = int(random.random() * size)
        chance = random.random()
        if not size or chance < 0.1:
            out[at:at] = random.randbytes(1 + int(random.random() * 12))
        elif chance < 0.4:
            out[at] ^= 1 << int(random.random() * 8)
        elif chance < 0.7:
            out[at] = int(random.random() * 256)
        elif chance < 0.8:
            del out[at : at + 1 + int(random.random() * 8)]
        elif chance < 0.88:
            out[at : at + 1] = varint(_NUMBERS[int(random.random() * len(_NUMBERS))])
        elif chance < 0.96:
            del out[at:]
        else:
            out += out[at : at + 2000]
    return bytes(out)
