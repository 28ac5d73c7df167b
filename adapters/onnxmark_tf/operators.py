"""Operations of TensorFlow that tf2onnx 1.17 lacks and ONNX can express.

The exact GELU, Keras's default, comes to ``Erfc``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from onnxmark_tf.frameworks import imported

_PURPOSE = "converting through tf2onnx"


@cache
def supply_operators() -> None:
    """Teach tf2onnx what it lacks; once in a process.

    Raises:
        MissingExtra: It is not installed.
    """
    imported("tf2onnx.tfonnx", "tf", _PURPOSE)
    tf_op: Any = imported("tf2onnx.handler", "tf", _PURPOSE).tf_op
    known = {name for versions in tf_op.get_opsets().values() for names in versions for name in names}
    if "Erfc" not in known:
        tf_op("Erfc")(_ComplementaryError)


class _ComplementaryError:
    """``erfc(x) = 1 - erf(x)``."""

    @classmethod
    def version_9(cls, graph: Any, node: Any, **_: Any) -> None:
        """Replace a node, from operator set 9 on, which has ``Erf``; the name is how tf2onnx finds it."""
        types: Any = imported("tf2onnx.utils", "tf", _PURPOSE)
        (value,), (output,) = node.input, node.output
        shape, dtype = graph.get_shape(output), graph.get_dtype(output)
        graph.remove_node(node.name)
        error = graph.make_node("Erf", [value], shapes=[shape], dtypes=[dtype])
        one = graph.make_const(f"{node.name}__one", np.ones((), types.map_onnx_to_numpy_type(dtype)))
        graph.make_node(
            "Sub", [one.output[0], error.output[0]], name=node.name, outputs=[output], shapes=[shape], dtypes=[dtype]
        )
