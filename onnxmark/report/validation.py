"""Does a value follow a JSON Schema? The few words of draft 2020-12 that our own schemas use, and no others.

A saved document is anybody's file, so its structure is checked before it is drawn. Why not a library: ``jsonschema``
would bring four packages into the core, one of them compiled; ``fastjsonschema`` brings none, but reads drafts up to 7
and turns a schema into source text that it executes, and all that is needed is below. What keeps this honest are the
tests: ``jsonschema`` gives the same answer on every document that the commands make and on thousands of broken ones,
and a schema with a word that is not read here is refused.

One deviation: ``1.0`` is no integer. We never write one, and a renderer counts with integers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from onnxmark.report.text import plain

Schema = dict[str, Any]

WORDS: Final = frozenset(
    (
        *("$ref", "type", "const", "enum", "required", "properties", "items", "minItems", "maxItems"),
        *("minimum", "maximum", "pattern", "if", "then", "else"),
    )
)
"""Words that are obeyed."""

NOTES: Final = frozenset(("$schema", "$id", "$defs", "title", "description"))
"""Words that say nothing about a value."""

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def first_problem(value: Any, schema: Schema) -> str | None:
    """The first place where a value breaks a schema, in words; None where it follows it.

    Args:
        value: What ``json.loads`` gives.
        schema: A whole schema: its references point into it (``#/$defs/name``).
    """
    return next(_problems(value, schema, schema.get("$defs", {}), ""), None)


def _problems(value: Any, schema: Schema, definitions: Schema, place: str) -> Iterator[str]:
    if "$ref" in schema:
        yield from _problems(value, definitions[schema["$ref"].removeprefix("#/$defs/")], definitions, place)
    if "type" in schema and not _is(value, schema["type"]):
        yield f"{place or 'the document'} is {_shown(value)}, expected {_or(schema['type'])}"
        return
    yield from _choice(value, schema, place)
    if isinstance(value, dict):
        yield from _members(value, schema, definitions, place)
    elif isinstance(value, list):
        yield from _elements(value, schema, definitions, place)
    elif isinstance(value, str):
        yield from _text(value, schema, place)
    elif isinstance(value, int | float):
        yield from _number(value, schema, place)
    if "if" in schema:
        applies = next(_problems(value, schema["if"], definitions, place), None) is None
        yield from _problems(value, schema.get("then" if applies else "else", {}), definitions, place)


def _members(value: Schema, schema: Schema, definitions: Schema, place: str) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{place or 'the document'} has no {name!r}"
    for name, expected in schema.get("properties", {}).items():
        if name in value:
            yield from _problems(value[name], expected, definitions, f"{place}.{name}" if place else name)


def _elements(value: list[Any], schema: Schema, definitions: Schema, place: str) -> Iterator[str]:
    low, high = schema.get("minItems", 0), schema.get("maxItems", len(value))
    if not low <= len(value) <= high:
        yield f"{place} has {len(value)} entries, expected {low if len(value) < low else high}"
    for index, entry in enumerate(value if "items" in schema else ()):
        yield from _problems(entry, schema["items"], definitions, f"{place}[{index}]")


def _choice(value: Any, schema: Schema, place: str) -> Iterator[str]:
    if "const" in schema and value != schema["const"]:
        yield f"{place} is {_shown(value)}, expected {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place} is {_shown(value)}, expected one of {', '.join(map(repr, schema['enum']))}"


def _text(value: str, schema: Schema, place: str) -> Iterator[str]:
    if "pattern" in schema and re.search(schema["pattern"], value) is None:
        yield f"{place} is {_shown(value)}, which does not match {schema['pattern']}"


def _number(value: float, schema: Schema, place: str) -> Iterator[str]:
    if value < schema.get("minimum", value):
        yield f"{place} is {value!r}, expected at least {schema['minimum']}"
    if value > schema.get("maximum", value):
        yield f"{place} is {value!r}, expected at most {schema['maximum']}"


def _is(value: Any, types: str | list[str]) -> bool:
    names = [types] if isinstance(types, str) else types
    # A bool is an int to Python and not to JSON.
    return any(isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool)) for name in names)


def _or(types: str | list[str]) -> str:
    return types if isinstance(types, str) else " or ".join(types)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    return repr(plain(value, 60)) if isinstance(value, str) else repr(value)
