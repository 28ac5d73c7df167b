"""Tables of a plan's file, read once and to the end: what is missing, of another type or not known has one line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final, TypeVar, overload

from onnxmark.errors import PlanError
from onnxmark.evaluation.modifications import Scalar, Settings, Value

_KINDS: Final[dict[Any, str]] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}

_Kind = TypeVar("_Kind")


class Table:
    """One table of a TOML file, from which each key is taken once.

    Args:
        values: As :mod:`tomllib` gives it.
        where: Of which file and table, for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._left = dict(values)
        self._known: list[str] = []
        self.where = where

    @overload
    def take(self, name: str, kind: type[_Kind]) -> _Kind: ...

    @overload
    def take(self, name: str, kind: type[_Kind], default: None) -> _Kind | None: ...

    @overload
    def take(self, name: str, kind: type[_Kind], default: _Kind) -> _Kind: ...

    def take(self, name: str, kind: type[_Kind], default: Any = ...) -> _Kind | None:
        """The value of a key, which is then no longer there.

        Raises:
            PlanError: It is missing and there is no default, or of another type.
        """
        self._known.append(name)
        if name not in self._left:
            if default is ...:
                raise PlanError(f"{self.where}: {name!r} is missing; give {_KINDS[kind]}")
            return default  # type: ignore[no-any-return]
        found = self._left.pop(name)
        # A whole number will do for a number, but true is neither.
        fits = type(found) in (int, float) if kind is float else type(found) is kind
        if not fits:
            raise PlanError(f"{self.where}: {name!r} must be {_KINDS[kind]}, found {found!r}")
        return kind(found)  # type: ignore[call-arg]

    def count(self, name: str, default: int | None = None, least: int = 1) -> int:
        """A whole number from ``least``.

        Raises:
            PlanError: It is missing and there is no default, of another type, or smaller.
        """
        found = self.take(name, int) if default is None else self.take(name, int, default)
        if found < least:
            raise PlanError(f"{self.where}: {name!r} must be at least {least}, found {found}")
        return found

    def table(self, name: str) -> Table:
        """A table within; an empty one where it is missing."""
        return Table(self.take(name, dict, {}), f"{self.where}, [{name}]")

    def tables(self, name: str) -> list[Table]:
        """A list of tables; an empty one where it is missing.

        Raises:
            PlanError: It holds something else.
        """
        found = self.take(name, list, [])
        if not all(type(each) is dict for each in found):
            raise PlanError(f"{self.where}: {name!r} must be a list of tables, as [[{name}]] makes them")
        return [Table(each, f"{self.where}, [[{name}]] {place}") for place, each in enumerate(found, start=1)]

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; an empty one where it is missing.

        Raises:
            PlanError: It holds something else.
        """
        return self._all(name, (str,), "texts")

    def numbers(self, name: str) -> tuple[Value, ...]:
        """A list of numbers; an empty one where it is missing.

        Raises:
            PlanError: It holds something else.
        """
        return self._all(name, (int, float), "numbers")

    def settings(self, name: str) -> Settings:
        """A table of names and plain values.

        Raises:
            PlanError: It holds tables or lists.
        """
        return Table(self.take(name, dict, {}), f"{self.where}, {name}").rest()

    def rest(self) -> Settings:
        """All that is left, which must be plain values.

        Raises:
            PlanError: It holds tables, lists or dates.
        """
        for name, value in self._left.items():
            if type(value) not in (str, int, float, bool):
                raise PlanError(f"{self.where}: {name!r} must be a text, a number, true or false, found {value!r}")
        left: dict[str, Scalar] = dict(self._left)
        self._left.clear()
        return tuple(sorted(left.items()))

    def end(self) -> None:
        """Refuse what nobody asked for.

        Raises:
            PlanError: There is a key left; names the nearest that there is.
        """
        for name in self._left:
            near = difflib.get_close_matches(name, self._known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PlanError(f"{self.where} has no key {name!r} (there are: {', '.join(self._known)}){hint}")

    def _all(self, name: str, kinds: tuple[type, ...], words: str) -> tuple[Any, ...]:
        found = self.take(name, list, [])
        if not all(type(each) in kinds for each in found):
            raise PlanError(f"{self.where}: {name!r} must be a list of {words}, found {found!r}")
        return tuple(found)
