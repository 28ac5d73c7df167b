"""Letting somebody else's tool rewrite a model: the tool sees a copy, the user sees one sentence.

Tools change the message they are given, write to the terminal, leave files beside the model, and fail with whatever
their libraries raise. Here all of them get a copy in memory and silence, and their failures become one typed line. What
a tool says of its own work is not believed: the graph is compared before and after, and ONNX Runtime asked to load it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from onnxmark.errors import AttackError, CalibrationError, MissingExtra, ModelError, OnnxmarkError
from onnxmark.model.editing.whole import every_graph, load_whole, save_whole
from onnxmark.model.running.runtime import open_session

Change = Callable[[Any], Any]
"""From an ``onnx.ModelProto``, which it may change, to another; to None where the tool finds nothing to do."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A package that rewrites models.

    Args:
        package: Its name, to install and to import.
        extra: The extra of onnxmark that brings it.
    """

    package: str
    extra: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is in a graph, for telling whether and how it was changed.

    Args:
        operators: Nodes by operator, graphs inside nodes included.
        digest: SHA-256 of nodes and tensors; not of metadata, shapes and producer.
    """

    operators: Counter[str]
    digest: bytes


def convert(source: Path, output: Path, tool: Tool, change: Change) -> tuple[str, ...]:
    """Rewrite a model file with a tool.

    Args:
        source: The model; left as it is.
        output: Where the result goes, with its weights inside; it is there only when it is complete.
        tool: Whose code ``change`` calls.
        change: The rewriting.

    Returns:
        What became of the graph, and whether ONNX Runtime cannot load it, in sentences.

    Raises:
        AttackError: The tool fails on this model, or changes nothing.
        MissingExtra: The tool is not installed.
        ModelError: The model cannot be read, is larger than 2 GiB, or the result cannot be written.
    """
    version = _version(tool)
    model = load_whole(source)
    before = inventory(model)
    with _attempt(tool, source), _silence():
        changed = change(model)
    after = before if changed is None else inventory(changed)
    if after.digest == before.digest:
        raise AttackError(f"{str(source)!r}: {tool.package} {version} finds nothing to do in it; try another attack")
    save_whole(changed, output)
    return (f"{tool.package} {version}: {_difference(before, after)}", *_objection(output))


def inventory(model: Any) -> Inventory:
    """What is in an ``onnx.ModelProto``."""
    operators: Counter[str] = Counter()
    digest = hashlib.sha256()
    for graph in every_graph(model.graph):
        operators.update(node.op_type for node in graph.node)
        for message in (*graph.node, *graph.initializer, *graph.sparse_initializer):
            digest.update(_essence(message))
    return Inventory(operators, digest.digest())


def _essence(message: Any) -> bytes:
    """A node or tensor without what is only said about it."""
    told = [field for field in ("doc_string", "metadata_props") if field in message.DESCRIPTOR.fields_by_name]
    if any(getattr(message, field) for field in told):
        copy = type(message)()
        copy.CopyFrom(message)
        for field in told:
            copy.ClearField(field)
        message = copy
    content: bytes = message.SerializeToString(deterministic=True)
    return len(content).to_bytes(8, "little") + content


def _difference(before: Inventory, after: Inventory) -> str:
    kinds = sorted(before.operators | after.operators)
    moved = [
        f"{kind} {before.operators[kind]} → {after.operators[kind]}"
        for kind in kinds
        if before.operators[kind] != after.operators[kind]
    ]
    size = f"{before.operators.total()} nodes became {after.operators.total()}"
    return f"{size} ({', '.join(moved)})" if moved else f"{size}, of the same operators"


def _objection(path: Path) -> tuple[str, ...]:
    try:
        open_session(path, optimise=False)
    except ModelError as error:
        return (f"the result cannot be run: {error}",)
    except (CalibrationError, MissingExtra):
        # It loads and takes other things than tensors, or there is nothing to load it with.
        return ()
    return ()


def _version(tool: Tool) -> str:
    try:
        return str(getattr(import_module(tool.package), "__version__", "")).removeprefix("v")
    except ImportError as error:
        raise MissingExtra(tool.package, tool.extra, "this attack") from error


@contextmanager
def _attempt(tool: Tool, source: Path) -> Iterator[None]:
    try:
        yield
    except OnnxmarkError:
        raise
    except Exception as error:  # what tools raise has no other base class in common
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise AttackError(f"{str(source)!r}: {tool.package} fails on it ({reason}); try another attack") from error


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing reaches the terminal: neither from Python nor, through its descriptors, from C++."""
    disabled = logging.root.manager.disable
    with ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w"))
        for descriptor in (1, 2):
            stack.enter_context(_redirected(descriptor, nowhere.fileno()))
        stack.enter_context(redirect_stdout(nowhere))
        stack.enter_context(redirect_stderr(nowhere))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, disabled)
        yield


@contextmanager
def _redirected(descriptor: int, target: int) -> Iterator[None]:
    """What is written to ``descriptor`` goes to ``target``."""
    try:
        saved = os.dup(descriptor)
    except OSError:
        # A process without a terminal may have closed it.
        yield
        return
    try:
        os.dup2(target, descriptor)
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
