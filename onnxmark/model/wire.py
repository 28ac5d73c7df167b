"""The protobuf wire format, walked lazily: which fields a message has and where, without touching their payloads.

A graph of gigabytes is a few thousand short headers between long payloads. The walk looks at the headers through a
small window on the file and steps over everything else, so that listing 1.8 GB costs milliseconds. This module knows
varints, lengths and groups, but nothing of ONNX; it is the only one that does, and the inner loop of every listing.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnxmark.errors import MalformedModel, ModelLimitError
from onnxmark.model.limits import MAX_FIELDS, MAX_MESSAGE_FIELDS, MAX_NESTING, MAX_TEXT
from onnxmark.model.source import Source

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)

Field = tuple[int, int, int]
"""Tag (number << 3 | wire type), first and past-last byte of the value; for a varint, value and past-last byte."""

_WINDOW = 32 << 10
_HEADER = 20
"""A tag and a length of ten bytes each: as long as a header may be."""
_MASK = (1 << 64) - 1


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The 64-bit varint at ``at`` and the position after it.

    Raises:
        IndexError: The data end inside it.
        ValueError: It goes on for more than ten bytes.
    """
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")


class Wire:
    """The fields of messages in one file.

    Args:
        source: The file. A slice of it is kept in memory, the window, and moved along.
    """

    __slots__ = ("_base", "_budget", "_window", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        self._window = b""
        self._base = 0
        self._budget = MAX_FIELDS

    def malformed(self, what: str, offset: int) -> MalformedModel:
        """The error for ``what`` at ``offset``, to be raised."""
        return MalformedModel(
            f"{self.source}: malformed model: {what} at byte {offset}; the file is damaged, get it again"
        )

    def limit(self, what: str) -> ModelLimitError:
        """The error for too much of something, to be raised."""
        return ModelLimitError(f"{self.source}: {what}; no real model is like that, so it is not read any further")

    def fields(self, start: int, end: int) -> list[Field]:
        """All fields of the message in ``[start, end)``.

        Raises:
            MalformedModel: The bytes there are not a message.
            ModelLimitError: More fields than any real message has.
        """
        out: list[Field] = []
        groups: list[int] = []
        while start < end:
            self._cover(start, end)
            start = self._scan(start, end, out, groups)
            if len(out) > MAX_MESSAGE_FIELDS:
                raise self.limit(f"a message with more than {MAX_MESSAGE_FIELDS} fields ends at byte {end}")
        if groups:
            raise self.malformed("a group that does not end", end)
        self.spend(len(out))
        return out

    def stream(self, start: int, end: int) -> Iterator[Field]:
        """The same, a windowful at a time, for the messages that may have millions of fields."""
        groups: list[int] = []
        while start < end:
            out: list[Field] = []
            self._cover(start, min(end, start + _HEADER))
            start = self._scan(start, end, out, groups)
            self.spend(len(out))
            yield from out
        if groups:
            raise self.malformed("a group that does not end", end)

    def view(self, start: int, end: int) -> tuple[bytes, int]:
        """Bytes of the file, and where among them the message in ``[start, end)`` begins.

        All of it is there if it is short and the file does not end before; of a long one, some part.
        """
        base = self._base
        if start < base or end - base > len(self._window):
            self._cover(start, end)
            base = self._base
        return self._window, start - base

    def text(self, start: int, end: int) -> str:
        """A name. Bytes that are not UTF-8 are shown as escapes, as names are for people and for comparing."""
        base = self._base
        if start >= base and end - base <= len(self._window):
            return self._window[start - base : end - base].decode("utf-8", "backslashreplace")
        return self.data(start, end).decode("utf-8", "backslashreplace")

    def data(self, start: int, end: int, most: int = MAX_TEXT) -> bytes:
        """The bytes in ``[start, end)``.

        Raises:
            ModelLimitError: More than ``most`` of them.
        """
        if end - start > most:
            raise self.limit(f"a name or value of {end - start} bytes at byte {start}")
        return self.source.exactly(start, end - start)

    def spend(self, fields: int) -> None:
        """Count fields that were looked at.

        Raises:
            ModelLimitError: One too many.
        """
        self._budget -= fields
        if self._budget < 0:
            raise self.limit(f"more than {MAX_FIELDS} fields")

    def _cover(self, start: int, end: int) -> None:
        """Move the window so that it holds ``[start, end)`` if that is short, else at least the header at ``start``."""
        last = self._base + len(self._window)
        if start >= self._base and (end <= last or (end - start > _WINDOW and start + _HEADER <= last)):
            return
        self._window = self.source.upto(start, _WINDOW)
        self._base = start

    def _scan(self, start: int, end: int, out: list[Field], groups: list[int]) -> int:
        """Append the fields whose headers the window holds; return where the next one starts.

        One long loop on purpose: a call per field would double the time of a listing.
        """
        window, base, append = self._window, self._base, out.append
        at = start - base
        stop = end - base
        # Past this point a header may continue beyond the window; at the end of the message there is nothing beyond.
        safe = stop if stop <= len(window) else len(window) - _HEADER + 1
        if safe <= at:
            # The file ends within a header's length, before the end the enclosing message promised.
            raise self.malformed("truncated: the file ends inside a message", start)
        try:
            while at < safe:
                tag = window[at]
                at += 1
                if tag > 127:
                    tag, at = varint(window, at - 1)
                kind = tag & 7
                if kind == BYTES:
                    size = window[at]
                    at += 1
                    if size > 127:
                        size, at = varint(window, at - 1)
                    after = at + size
                    if after > stop:
                        raise self._overrun(tag, size, base + at, end)
                    if not groups:
                        append((tag, base + at, base + after))
                    at = after
                elif kind == VARINT:
                    value = window[at]
                    at += 1
                    if value > 127:
                        value, at = varint(window, at - 1)
                    if not groups:
                        append((tag, value, base + at))
                elif kind in (FIXED32, FIXED64):
                    after = at + (4 if kind == FIXED32 else 8)
                    if after > stop:
                        raise self._overrun(tag, after - at, base + at, end)
                    if not groups:
                        append((tag, base + at, base + after))
                    at = after
                else:
                    self._group(tag, base + at, groups)
                if not 8 <= tag < 1 << 32:
                    raise self.malformed(f"a field numbered {tag >> 3}", base + at)
        except IndexError:
            raise self.malformed("a field cut short", base + at) from None
        except ValueError as error:
            raise self.malformed(str(error), base + at) from None
        if at > stop:
            raise self.malformed("a field that runs over the end of its message", base + at)
        return base + at

    def _group(self, tag: int, offset: int, groups: list[int]) -> None:
        if tag & 7 == GROUP:
            groups.append(tag >> 3)
            if len(groups) > MAX_NESTING:
                raise self.limit(f"groups nested more than {MAX_NESTING} deep at byte {offset}")
        elif tag & 7 != END_GROUP:
            raise self.malformed(f"a field of the unknown wire type {tag & 7}", offset)
        elif not groups or groups.pop() != tag >> 3:
            raise self.malformed("the end of a group that never began", offset)

    def _overrun(self, tag: int, size: int, offset: int, end: int) -> MalformedModel:
        what = f"field {tag >> 3} needs {size} bytes, {end - offset} are left"
        return self.malformed(f"truncated: {what}" if end == self.source.size else what, offset)
