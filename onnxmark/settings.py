"""Fields of dataclasses as users write them: ``length=560`` becomes an ``int``, or one line that says why not."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from onnxmark.errors import SettingError

_TRUE: Final = ("true", "yes", "on", "1")
_FALSE: Final = ("false", "no", "off", "0")
_KINDS: Final = {bool: "true or false", int: "a whole number", float: "a number"}

_Options = TypeVar("_Options")


def settings(options: type[_Options], given: Sequence[str], where: str) -> _Options:
    """An instance of a dataclass whose fields all have defaults.

    Args:
        options: The dataclass.
        given: ``NAME=VALUE``, one for each field that is to differ from its default.
        where: What is being set, for messages.

    Raises:
        SettingError: Not of that form, no such field, a value of another type, or one that the dataclass refuses.
    """
    hints, known, values = get_type_hints(options), [field.name for field in fields(options)], {}  # type: ignore[arg-type]
    for pair in given:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise SettingError(f"{where}: {pair!r} is not NAME=VALUE")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingError(f"{where} has no setting {name!r} (there are: {', '.join(known) or 'none'}){hint}")
        try:
            values[name] = typed(hints[name], text.strip())
        except ValueError as error:
            raise SettingError(f"{where}: {name} must be {error}, found {text!r}") from None
    try:
        return options(**values)
    except ValueError as error:
        raise SettingError(f"{where}: {error}") from error


def typed(hint: Any, text: str) -> Any:
    """A text as a value of a field's type; percentages are numbers.

    Raises:
        ValueError: It is none; the message says what is wanted.
    """
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
    if get_origin(hint) is Literal and text not in get_args(hint):
        raise ValueError(f"one of {', '.join(map(str, get_args(hint)))}")
    try:
        if hint is bool:
            return _truth(text)
        if hint is int:
            return int(text)
        if hint is float:
            return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(_KINDS[hint]) from None
    return text


def _truth(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)
