"""Names become objects here and nowhere else: schemes, attacks and converters are found by their entry points.

Listing reads package metadata only; loading tells a missing framework from a broken package.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, cast

from onnxmark.conversion import Container, Converter
from onnxmark.errors import MissingExtra, PluginError
from onnxmark.schemes.scheme import Scheme

SCHEMES: Final = "onnxmark.schemes"
ATTACKS: Final = "onnxmark.attacks"
ADAPTERS: Final = "onnxmark.adapters"
LABORATORIES: Final = "onnxmark.laboratories"


def names(group: str) -> tuple[str, ...]:
    """Names of the plugins of a group, sorted; nothing is imported."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


def distribution(group: str, name: str) -> str | None:
    """The installed distribution that a plugin comes with; None where there is no such plugin, or nothing says so."""
    found = (point.dist for point in entry_points(group=group) if point.name == name)
    return next((dist.name for dist in found if dist is not None), None)


@lru_cache
def scheme(name: str) -> Scheme:
    """The scheme of a name.

    Raises:
        PluginError: There is none, or it does not import.
    """
    return cast("Scheme", _load(SCHEMES, name)())


def attack(name: str) -> type[Any]:
    """The attack class of a name.

    Raises:
        PluginError: There is none, or it does not import.
    """
    return cast("type[Any]", _load(ATTACKS, name))


def converter(container: Container) -> Converter:
    """What converts a container to ONNX.

    Raises:
        MissingExtra: A framework is not installed.
        PluginError: There is none, or it does not import.
    """
    return cast("Converter", _load(ADAPTERS, container.value))


def laboratory(name: str) -> Any:
    """What makes a laboratory, where networks are trained for an evaluation, of a plan.

    Raises:
        MissingExtra: Its framework is not installed.
        PluginError: There is none, or it does not import.
    """
    return _load(LABORATORIES, name)


def _load(group: str, name: str) -> Any:
    point = _point(group, name)
    try:
        return point.load()
    except MissingExtra:
        raise
    except ImportError as error:
        raise PluginError(
            f"plugin {name!r} ({point.value}) cannot be imported: {error}; install what it needs"
        ) from error
    except AttributeError as error:
        raise PluginError(
            f"plugin {name!r} points to {point.value}, which does not exist; update its package"
        ) from error


def _point(group: str, name: str) -> EntryPoint:
    for point in entry_points(group=group):
        if point.name == name:
            return point
    known = ", ".join(names(group)) or "none installed"
    raise PluginError(f"no plugin {name!r} in {group} (there are: {known})")
