"""Attacks as users write them: ``--quantize 8,per_channel`` becomes a recipe, and ``full`` a list of recipes.

The names and fields are those of the recipes themselves, so a third party's attack has its option, its place in a full
sweep and its line in the list as soon as its package is installed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Final, cast, get_args, get_type_hints

from onnxmark import plugins
from onnxmark.attacks import QUICK, VARIANTS, Recipe
from onnxmark.errors import AttackError, MissingExtra, PluginError
from onnxmark.settings import typed

SETS: Final = ("none", "quick", "full")


def recipe(name: str, text: str | None = None) -> Recipe:
    """The recipe that a user means.

    Args:
        name: Name of the attack.
        text: The value of its main parameter, then further fields: ``8``, ``8,per_channel``, ``0.5,rows=64``. None for
            an attack whose main parameter has a default, or that has none.

    Raises:
        AttackError: There is no such attack, or the text does not fit it.
        PluginError: The attack's package does not import.
    """
    found = _class(name)
    known = {field.name: field for field in fields(found)}
    given: dict[str, Any] = {}
    for place, part in enumerate([] if text is None else text.split(",")):
        key, equals, value = part.partition("=")
        key = key.strip().replace("-", "_")
        if not equals and place == 0 and not (key in known and _is_flag(found, key)):
            main = next(iter(known), None)
            if main is None:
                raise AttackError(f"--{name} takes no value, found {part!r}")
            given[main] = _value(found, name, main, part.strip())
        elif key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise AttackError(f"--{name} has no field {key!r} (there are: {', '.join(known) or 'none'}){hint}")
        else:
            given[key] = _value(found, name, key, value.strip() if equals else "true")
    lacking = [field.name for field in known.values() if field.name not in given and _default(field) is MISSING]
    if lacking:
        raise AttackError(f"--{name} takes a value ({found.summary}); for example --{name} {_example(found)}")
    try:
        return cast("Recipe", found(**given))
    except ValueError as error:
        raise AttackError(f"--{name} {text or ''}: {error}") from error


def optional_value(name: str) -> bool:
    """Whether an attack's main parameter may be left out.

    Raises:
        AttackError: There is no such attack.
        PluginError: The attack's package does not import.
    """
    found = fields(_class(name))
    return not found or _default(found[0]) is not MISSING


@dataclass(frozen=True, slots=True)
class Selection:
    """The recipes of a sweep.

    Args:
        recipes: In the order of the report.
        skipped: Names of attacks left out, and why.
    """

    recipes: tuple[Recipe, ...]
    skipped: tuple[tuple[str, str], ...] = ()


def select(text: str) -> Selection:
    """The recipes that ``--attacks`` means: ``none``, ``quick``, ``full``, names of attacks, or several with commas.

    ``full`` is every installed attack that can be tried on the carrier alone, at every strength; attacks that need a
    file are tried where they are named. An attack whose package does not import is skipped in ``full``.

    Raises:
        AttackError: A name is unknown.
        PluginError: A named attack's package does not import.
    """
    chosen: dict[Recipe, None] = {}
    skipped: list[tuple[str, str]] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        if word == "quick":
            chosen |= dict.fromkeys(QUICK)
        elif word == "full":
            chosen |= dict.fromkeys(_full(skipped))
        elif word != "none":
            chosen |= dict.fromkeys(_strengths(word))
    return Selection(tuple(chosen), tuple(skipped))


def _full(skipped: list[tuple[str, str]]) -> Iterator[Recipe]:
    names = plugins.names(plugins.ATTACKS)
    order = list(dict.fromkeys([attack.name for attack in QUICK]))
    for name in sorted(names, key=lambda each: (order.index(each) if each in order else len(order), each)):
        try:
            found = plugins.attack(name)
        except (PluginError, MissingExtra) as error:
            skipped.append((name, str(error)))
            continue
        if hasattr(found, "change"):
            yield from (cast("Recipe", found(strength)) for strength in found.strengths)
            yield from (variant for variant in VARIANTS if variant.name == name)


def _strengths(name: str) -> tuple[Recipe, ...]:
    found = _class(name)
    if found.strengths:
        variants = tuple(variant for variant in VARIANTS if variant.name == name)
        return (*(cast("Recipe", found(strength)) for strength in found.strengths), *variants)
    return (recipe(name),)


@dataclass(frozen=True, slots=True)
class FieldFacts:
    """A field of an attack: its name, its type in words, and its default (None where it must be given)."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True, slots=True)
class AttackFacts:
    """What the list of attacks says of one.

    Args:
        name: Its name.
        summary: One line; empty where it does not import.
        kind: ``weights``, ``model`` or ``both``; empty where it does not import.
        random: Whether it draws at random.
        needs: What it needs besides the weights.
        strengths: Main parameters that a sweep tries.
        fields: Its fields, the main parameter first.
        problem: Why it does not import.
    """

    name: str
    summary: str = ""
    kind: str = ""
    random: bool = False
    needs: tuple[str, ...] = ()
    strengths: tuple[float | str, ...] = ()
    fields: tuple[FieldFacts, ...] = ()
    problem: str | None = None


def catalogue() -> tuple[AttackFacts, ...]:
    """Every installed attack, by name; one that does not import says why."""
    return tuple(_facts(name) for name in plugins.names(plugins.ATTACKS))


def _facts(name: str) -> AttackFacts:
    try:
        found = plugins.attack(name)
    except (PluginError, MissingExtra) as error:
        return AttackFacts(name, problem=str(error))
    weights, model = hasattr(found, "change"), hasattr(found, "rewrite")
    hints = get_type_hints(found)
    return AttackFacts(
        name=name,
        summary=found.summary,
        kind="both" if weights and model else "weights" if weights else "model",
        random=found.random,
        needs=tuple(str(need) for need in found.needs),
        strengths=tuple(found.strengths),
        fields=tuple(
            FieldFacts(
                field.name,
                _words(hints[field.name]),
                None if _default(field) is MISSING else str(_default(field)),
            )
            for field in fields(found)
        ),
    )


def _words(hint: Any) -> str:
    """A type for people: ``int``, ``zero|dead|mixed``."""
    choices = get_args(hint)
    return "|".join(map(str, choices)) if choices else getattr(hint, "__name__", str(hint))


def _class(name: str) -> type[Any]:
    names = plugins.names(plugins.ATTACKS)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise AttackError(f"no attack {name!r}{hint} ('onnxmark attack --list' lists them)")
    return plugins.attack(name)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _is_flag(found: type[Any], key: str) -> bool:
    return get_type_hints(found)[key] is bool


def _value(found: type[Any], name: str, key: str, text: str) -> Any:
    try:
        return typed(get_type_hints(found)[key], text)
    except ValueError as error:
        raise AttackError(f"--{name}: {key} must be {error}, found {text!r}") from None


def _example(found: type[Any]) -> str:
    strengths: Sequence[Any] = found.strengths
    return str(strengths[len(strengths) // 2]) if strengths else "VALUE"
