"""What a SavedModel may do when it is loaded, found by reading its graph before TensorFlow does.

A SavedModel is a program. ``tf.saved_model.load`` runs the functions that make and fill its resources, one saved by
TensorFlow 1 runs its restoring and initialising operations, and freezing evaluates whatever has constant inputs. Among
TensorFlow's operations are some that read and write files. So every function that loading can reach has to consist of
operations that only compute: those that have a counterpart in ONNX (nothing else could be converted anyway), calls,
and variables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from onnxmark_tf.frameworks import imported
from onnxmark_tf.operators import supply_operators

_CALLS_AND_VARIABLES: Final = frozenset(
    {
        *("Assert", "AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "DisableCopyOnRead"),
        *("BroadcastArgs", "BroadcastGradientArgs", "Case", "EmptyTensorList", "LookupTableImportV2"),
        *("MutableHashTableV2", "PartitionedCall", "PreventGradient", "ReadVariableOp", "ResourceGather", "ShapeN"),
        *("StatefulPartitionedCall", "StatelessCase", "StatelessRandomGetKeyCounter", "StatelessRandomNormalV2"),
        *("StatelessRandomUniformV2", "StatelessTruncatedNormalV2", "TruncatedNormal", "VarHandleOp"),
        *("VarIsInitializedOp", "VariableShape"),
    }
)
"""Operations that only compute, call or hold variables, and vanish when a function is frozen."""


def dangers(saved_model: Any) -> tuple[str, ...]:
    """Why loading a SavedModel could do more than compute, in words; none where it could not.

    Args:
        saved_model: The parsed ``SavedModel`` message.
    """
    if len(saved_model.meta_graphs) != 1 or not saved_model.meta_graphs[0].HasField("object_graph_def"):
        return ("operations of its own that TensorFlow 1 runs to restore it",)
    known = _convertible() | _CALLS_AND_VARIABLES
    found = dict.fromkeys(node.op for node in _reachable(saved_model.meta_graphs[0]) if node.op not in known)
    return tuple(f"the operation {name}" for name in found)


def _convertible() -> frozenset[str]:
    """Operations that tf2onnx turns into ONNX's."""
    supply_operators()
    opsets = imported("tf2onnx.handler", "tf", "converting a SavedModel").tf_op.get_opsets()
    return frozenset(name for versions in opsets.values() for names in versions for name in names)


def _reachable(meta_graph: Any) -> Iterator[Any]:
    """Nodes of every function in the model that loading could run.

    The two functions that save and restore a checkpoint write and read files, and stand in every SavedModel; TensorFlow
    2 has its own, and runs these only if an object of the model says that they are something else as well.
    """
    functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    waiting = sorted((set(functions) - set(_of_saver(meta_graph))) | set(_of_objects(meta_graph.object_graph_def)))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            yield node
            waiting += _called(node)


def _of_saver(meta_graph: Any) -> Iterator[str]:
    """Functions that the nodes of the checkpoint's saver call."""
    saver = meta_graph.saver_def
    names = {name.partition(":")[0] for name in (saver.save_tensor_name, saver.restore_op_name)}
    for node in meta_graph.graph_def.node:
        if node.name in names:
            yield from _called(node)


def _of_objects(graph: Any) -> Iterator[str]:
    """Functions that the objects of the model name."""
    yield from graph.concrete_functions
    for node in graph.nodes:
        yield from node.function.concrete_functions
        yield node.bare_concrete_function.concrete_function_name
        yield node.captured_tensor.concrete_function


def _called(node: Any) -> Iterator[str]:
    for attribute in node.attr.values():
        if attribute.func.name:
            yield attribute.func.name
        yield from (function.name for function in attribute.list.func)
