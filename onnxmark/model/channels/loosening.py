"""Reshapes that state a number of channels, rewritten so that they take it from their input.

PyTorch's exporter writes the sizes it saw into a flattening Reshape: ``[1, 800]``, or ``[-1, 800]`` with an open batch.
Such a shape forbids to remove a channel before it, though nothing else would; ``[0, -1]`` says the same without.
"""

from __future__ import annotations

from math import prod

import numpy as np

from onnxmark.model.editing.editable import EditableModel

Shape = tuple[int | None, ...]


def loosen_reshapes(model: EditableModel) -> None:
    """Let every Reshape take its last size, and leading sizes that stay, from its input where that is certain.

    What the model computes stays as it is, whatever it is given.
    """
    shapes = model.shapes()
    for node in model.nodes:
        if node.op_type != "Reshape" or node.domain not in ("", "ai.onnx"):
            continue
        target = model.constant(node.input[1])
        source, result = (shapes.get(name) for name in (node.input[0], node.output[0]))
        if target is None or source is None or result is None:
            continue
        loose = loosened(tuple(target.reshape(-1).tolist()), source, result)
        if loose is not None:
            # No size is 0 where a shape can be loosened; from here on 0 means "as in the input".
            model.set_attribute(node, "allowzero", None)
            model.replace_constant(node, 1, np.array(loose, dtype=np.int64))


def loosened(target: tuple[int, ...], source: Shape, result: Shape) -> tuple[int, ...] | None:
    """The same reshape with sizes left to the input; None where it has none to leave, or sizes are not known.

    Args:
        target: Shape asked for, with ONNX's 0 (as in the input) and -1 (what remains).
        source: Shape of the input, None for open sizes.
        result: Shape of the result.
    """
    if not target or target[-1] <= 0 or 0 in (*source, *result) or None in (*source[1:], *result[1:]):
        return None
    if None in (source[0], result[0]) and (source[0] != result[0] or prod(source[1:]) != prod(result[1:])):  # type: ignore[arg-type]
        return None
    kept = 0
    while kept < min(len(source), len(result) - 1) and source[kept] == result[kept]:
        kept += 1
    middle = target[kept:-1]
    return None if -1 in middle else (*(0 for _ in range(kept)), *middle, -1)
