"""tf2onnx mended for as long as it is used: two flaws of version 1.17 that every user would meet, and what it lacks.

Before each of its dozen rewritings, over and over, it copies the whole graph with all weights. Its graphs and nodes
refer to each other, so that old copies wait for the collector of cycles, which seldom looks through so much that is
long-lived: a network of 100 MB took 5 GB. What was there before is set aside for the time being, and before each copy
the collector is called.

It takes whatever TensorFlow lists among the inputs of a function for an input of the model, also the constants that the
function has captured, as Keras's Normalization has them: the file then asks whoever runs it for numbers of the model.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from onnxmark_tf.frameworks import imported
from onnxmark_tf.operators import supply_operators

_PURPOSE = "converting through tf2onnx"


@contextmanager
def mended() -> Iterator[None]:
    """tf2onnx without these flaws, inside.

    Raises:
        MissingExtra: It is not installed.
    """
    optimizer: Any = imported("tf2onnx.optimizer", "tf", _PURPOSE)
    convert: Any = imported("tf2onnx.convert", "tf", _PURPOSE)
    supply_operators()
    theirs = optimizer.copy, convert._convert_common
    gc.collect()
    gc.freeze()
    optimizer.copy = SimpleNamespace(deepcopy=_copied)
    convert._convert_common = _without_constants(convert._convert_common)
    try:
        yield
    finally:
        optimizer.copy, convert._convert_common = theirs
        gc.unfreeze()


def _copied(graph: Any) -> Any:
    gc.collect()
    return copy.deepcopy(graph)


def _without_constants(converting: Callable[..., Any]) -> Callable[..., Any]:
    """The conversion of a frozen graph, inputs that are constants in it left out."""

    def converted(frozen_graph: Any, *arguments: Any, **options: Any) -> Any:
        if options.get("input_names") and frozen_graph is not None:
            constants = {node.name for node in frozen_graph.node if node.op == "Const"}
            options["input_names"] = [
                name for name in options["input_names"] if name.partition(":")[0] not in constants
            ]
        return converting(frozen_graph, *arguments, **options)

    return converted
