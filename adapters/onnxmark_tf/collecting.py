"""tf2onnx with the memory that its graphs need, and not several times as much.

Before each of its dozen rewritings, over and over, it copies the whole graph with all weights. Its graphs and nodes
refer to each other, so that old copies wait for the collector of cycles, which seldom looks through so much that is
long-lived: a network of 100 MB took 5 GB. What was there before is set aside for the time being, and before each copy
the collector is called.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from onnxmark_tf.frameworks import imported


@contextmanager
def collecting() -> Iterator[None]:
    """Old graphs of tf2onnx are freed inside before it copies the next.

    Raises:
        MissingExtra: tf2onnx is not installed.
    """
    optimizer: Any = imported("tf2onnx.optimizer", "tf", "converting through tf2onnx")
    theirs = optimizer.copy
    gc.collect()
    gc.freeze()
    optimizer.copy = SimpleNamespace(deepcopy=_copied)
    try:
        yield
    finally:
        optimizer.copy = theirs
        gc.unfreeze()


def _copied(graph: Any) -> Any:
    gc.collect()
    return copy.deepcopy(graph)
