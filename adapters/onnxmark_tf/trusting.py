"""What a Keras configuration would run or fetch if it were loaded, found by reading it.

Keras has a safe mode, but what it stops has grown with every report of a way around it (CVE-2024-3660, CVE-2025-1550,
CVE-2025-8747, CVE-2025-9905), and the user's Keras may be of any version. So the configuration is looked through before
Keras sees it, and Keras's safe mode stays on behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

_ACTING: Final = MappingProxyType(
    {
        "Lambda": "a Lambda layer, which runs a function that the file chooses",
        "__lambda__": "a Python function, kept in the file as bytecode",
        "TFSMLayer": "a layer that loads and runs a SavedModel",
        "TorchModuleWrapper": "a PyTorch module, kept in the file as a pickle",
    }
)
"""Classes that act when they are loaded or called, in words."""

_PACKAGES: Final = frozenset({"keras", "keras_hub", "keras_nlp", "keras_cv", "builtins"})
"""Where Keras finds classes and functions by itself."""

_FUNCTIONS: Final = frozenset(
    {
        "builtins",
        *(f"keras.{part}" for part in ("activations", "constraints", "initializers", "losses", "metrics", "ops")),
        *("keras.regularizers", "keras.src.activations.activations"),
    }
)
"""Modules whose functions only compute."""

_OURS: Final = ("WatermarkRegularizer", "onnxmark_tf.regularizer", "onnxmark>WatermarkRegularizer")
"""Class, module and registered name of what a model marked with Keras holds of us; it comes back without its key."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a configuration holds besides layers of Keras.

    Args:
        dangers: Parts that would run or read something the file chooses, in words; each once.
        custom: Names of classes and functions that are not Keras's own, and whose code the file does not hold.
    """

    dangers: tuple[str, ...]
    custom: tuple[str, ...]


def look_through(config: Any) -> Findings:
    """Look through the configuration of a model.

    Args:
        config: Parsed JSON: dictionaries, lists and plain values.
    """
    dangers: dict[str, None] = {}
    custom: dict[str, None] = {}
    for part in _dictionaries(config):
        if "class_name" in part:
            danger, foreign = _judged(part)
            dangers |= dict.fromkeys(danger)
            custom |= dict.fromkeys(foreign)
        dangers |= dict.fromkeys(
            f"a layer that reads the file {part[key]!r}"
            for key in ("vocabulary", "idf_weights")
            if isinstance(part.get(key), str)
        )
    return Findings(tuple(dangers), tuple(custom))


def _judged(part: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What one serialised object is: dangerous, custom, or neither."""
    name, module = str(part["class_name"]), part.get("module")
    if name in _ACTING:
        return (_ACTING[name],), ()
    registered = str(part.get("registered_name") or "")
    if (name, module, registered) == _OURS:
        return (), ()
    if (module is not None and str(module).partition(".")[0] not in _PACKAGES) or ">" in registered:
        return (), (registered or f"{module}.{name}",)
    if name == "function" and module is not None and module not in _FUNCTIONS:
        return (f"the function {module}.{part.get('config')}",), ()
    return (), ()


def _dictionaries(config: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in nested JSON, without recursion: a hostile file nests deeper than Python does."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
