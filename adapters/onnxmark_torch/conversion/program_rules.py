"""What a serialised program may say so that loading it cannot run code of the file.

``torch.export.load`` trusts its input: it evaluates symbolic sizes as Python, calls whatever function of ``torch`` a
node names, imports types that argument structures name, and compiles Python source made of the names in the graph. So
every string is held against a rule for its place, and a place without a rule is refused.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PATH: Final = re.compile(r"\w+(\.\w+)*|", re.ASCII)
_OPERATOR: Final = re.compile(r"torch\.ops\.aten\.([A-Za-z_]\w*)\.([A-Za-z_]\w*)", re.ASCII)
_SIZE_OPERATORS: Final = frozenset(
    {"_operator.add", "_operator.sub", "_operator.mul", "_operator.floordiv", "_operator.mod", "_operator.neg",
     "_operator.eq", "_operator.ne", "_operator.lt", "_operator.le", "_operator.gt", "_operator.ge", "math.trunc",
     "torch.sym_int", "torch.sym_float", "torch.sym_max", "torch.sym_min", "torch.sym_not", "torch.sym_ite"}
)  # fmt: skip
_SIZE_FUNCTIONS: Final = frozenset(
    {"Symbol", "Integer", "Add", "Mul", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "IntTrueDiv",
     "ModularIndexing", "Max", "Min", "Where", "Identity", "Equality", "Unequality", "LessThan", "StrictLessThan",
     "GreaterThan", "StrictGreaterThan", "And", "Or", "Not"}
)  # fmt: skip
"""Without powers, which need no code to keep a machine busy for ever."""
_STRUCTURES: Final = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", None})
_FORBIDDEN: Final = frozenset({"as_custom_obj", "custom_obj", "as_operator", "as_graph"})
"""Objects of classes of their own, functions by name, and graphs in graphs."""
_DESCRIPTIVE: Final = frozenset({"metadata", "guards_code"})
"""What only describes a program, source paths of the machine it was made on among it."""


class UnsafeProgram(Exception):
    """What in a program could run code; never leaves this package, which turns it into words."""


def plain(value: Any, place: str = "") -> Any:
    """A part of a serialised program without what only describes it.

    Args:
        value: JSON as Python has it.
        place: The key it stands under.

    Raises:
        UnsafeProgram: A string breaks the rule for its place, or its place has none.
    """
    if isinstance(value, dict):
        return {_key(key): _empty(part) if _describes(key, part) else plain(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part, place) for part in value]
    if isinstance(value, str) and not _RULES.get(place, _never)(value):
        raise UnsafeProgram(f"{place or 'its content'} says {value[:60]!r}")
    return value


def _key(key: str) -> str:
    # Keys are names of tensors in the maps of a graph, which become variables of generated source.
    if key in _FORBIDDEN or _PATH.fullmatch(key) is None:
        raise UnsafeProgram(f"it holds {key[:60]!r}")
    return key


def _describes(key: str, value: Any) -> bool:
    """Whether it is a description, and not a tensor that is called like one."""
    if key not in _DESCRIPTIVE or not isinstance(value, (dict, list)):
        return False
    return all(isinstance(part, str) for part in (value.values() if isinstance(value, dict) else value))


def _empty(value: Any) -> Any:
    return type(value)()


def _is_operator(target: str) -> bool:
    """An operator of ATen on tensors, or one on sizes."""
    found = _OPERATOR.fullmatch(target)
    if found is None:
        return target in _SIZE_OPERATORS
    operator = getattr(getattr(torch.ops.aten, found[1], None), found[2], None)
    # ATen has operators that map and write files.
    return isinstance(operator, torch._ops.OpOverload) and not any(
        "file" in argument.name for argument in operator._schema.arguments
    )


def _is_size(text: str) -> bool:
    """Whether sympy would evaluate a symbolic size to nothing but sizes: calls of known functions on constants."""
    try:
        return _is_size_node(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_size_node(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, bool)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and _is_size_node(node.operand)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _SIZE_FUNCTIONS:
        return False
    if not all(keyword.arg and isinstance(keyword.value, ast.Constant) for keyword in node.keywords):
        return False
    if node.func.id == "Symbol":
        return len(node.args) == 1 and _is_symbol(node.args[0])
    return all(map(_is_size_node, node.args))


def _is_symbol(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_IDENTIFIER.fullmatch(node.value))


def _is_structure(text: str) -> bool:
    """Whether arguments are nested in tuples, lists and dictionaries only, with identifiers as keys."""
    try:
        _, structure = json.loads(text)
        return _is_structure_part(structure)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _is_structure_part(part: Mapping[str, Any]) -> bool:
    context = part["context"]
    keys = [] if context in (None, "null") else json.loads(context)
    return (
        part["type"] in _STRUCTURES
        and isinstance(keys, list)
        and all(isinstance(key, str) and _IDENTIFIER.fullmatch(key) for key in keys)
        and all(map(_is_structure_part, part["children_spec"]))
    )


def _is_identifier(text: str) -> bool:
    return not text or _IDENTIFIER.fullmatch(text) is not None


def _is_path(text: str) -> bool:
    return _PATH.fullmatch(text) is not None


def _anything(_: str) -> bool:
    return True


def _never(_: str) -> bool:
    return False


_RULES: Final[Mapping[str, Callable[[str], bool]]] = {
    "target": _is_operator,
    "expr_str": _is_size,
    "in_spec": _is_structure,
    "out_spec": _is_structure,
    # Values of arguments: Python source has them as literals.
    "as_string": _anything,
    "as_strings": _anything,
    "torch_version": _anything,
    "name": _is_identifier,
    "as_name": _is_identifier,
    "forward_arg_names": _is_identifier,
    "field_names": _is_identifier,
    "user_input_name": _is_identifier,
    "verifiers": _is_identifier,
    "type": _is_identifier,
    "fqn": _is_path,
    "parameter_name": _is_path,
    "buffer_name": _is_path,
    "tensor_constant_name": _is_path,
    "path_name": _is_identifier,
    # Floats that JSON cannot spell.
    "as_float": {"Infinity", "-Infinity", "NaN"}.__contains__,
    "as_floats": {"Infinity", "-Infinity", "NaN"}.__contains__,
}
