"""Kernel expansion: every filter gets a rim of zeros, and the padding grows with it.

The layer computes what it did, with zeros more in its sums, and has another shape: a reader that looks for the key's
shape finds no carrier, and a projection of all weights reads the wrong ones. A structural obfuscation as of Yan et al.
(USENIX Security 2023, arXiv 2303.09732), who enlarge the kernels of single neurons; what is done here about automatic
padding, dilation and transposed convolutions is a reconstruction.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from onnxmark.arrays import AnyArray
from onnxmark.attacks.attack import FileMeans, ModelAttack
from onnxmark.model.editing.editable import EditableModel, Node
from onnxmark.symmetries.account import Account

MAX_RINGS: Final = 16
_LAYERS: Final = ("Conv", "ConvTranspose")


@dataclass(frozen=True, slots=True)
class KernelExpansion(ModelAttack):
    """Make k x k kernels (k + 2 rings) x (k + 2 rings), the new weights zero, and pad their inputs accordingly.

    ``Conv`` and ``ConvTranspose`` of the main graph, of any number of spatial axes and groups, whose weights are stored
    as floats.

    Args:
        rings: Rows of zeros on each side of each spatial axis, 1 to 16.
    """

    name: ClassVar[str] = "expand-kernel"
    summary: ClassVar[str] = "surround every kernel with zeros; rings of them, 1 to 16"
    strengths: ClassVar[tuple[int, ...]] = (1, 2, 3)

    rings: int = 1

    def __post_init__(self) -> None:
        if type(self.rings) is not int or not 1 <= self.rings <= MAX_RINGS:
            raise ValueError(f"rings must be a whole number from 1 to {MAX_RINGS}, found {self.rings!r}")

    @property
    def label(self) -> str:
        """``kernel expansion by 2 taps``."""
        return f"kernel expansion by {2 * self.rings} taps"

    def rewrite(self, source: Path, output: Path, means: FileMeans) -> tuple[str, ...]:
        """See :class:`onnxmark.attacks.attack.ModelAttack`."""
        model = EditableModel.load(source)
        account = Account()
        for node in model.nodes:
            if node.op_type in _LAYERS and node.domain in ("", "ai.onnx") and means_layer(node, means):
                self._expand(model, node, account)
        account.require(source, "have its kernel expanded")
        # The file may also say the shapes of its weights there.
        model.forget_shapes()
        model.save(output)
        return account.sentences(f"kernels larger by {2 * self.rings}")

    def _expand(self, model: EditableModel, node: Node, account: Account) -> None:
        name = node.input[1]
        weights = model.constant(name)
        if weights is None or weights.dtype.kind != "f":
            account.leave(name, "its weights are not stored as floats")
            return
        pads = _expanded_pads(model, node, weights.shape[2:], self.rings)
        if isinstance(pads, str):
            account.leave(name, pads)
            return
        rim = [(0, 0), (0, 0), *[(self.rings, self.rings)] * (weights.ndim - 2)]
        grown: AnyArray = np.pad(weights, rim)
        model.replace_constant(node, 1, grown)
        if model.attribute(node, "kernel_shape"):
            model.set_attribute(node, "kernel_shape", list(grown.shape[2:]))
        if pads is not None:
            model.set_attribute(node, "auto_pad", None)
            model.set_attribute(node, "pads", pads)
        account.done.append(name)


def means_layer(node: Node, means: FileMeans) -> bool:
    """Whether a node is to be attacked: its weights or itself are named, or nothing is."""
    return means.layers is None or node.input[1] in means.layers or node.name in means.layers


def _expanded_pads(model: EditableModel, node: Node, kernel: tuple[int, ...], rings: int) -> list[int] | str | None:
    """Padding (all begins, then all ends) that goes with the larger kernel.

    Returns:
        The padding; None where ``auto_pad`` finds it by itself; a reason where no padding suits every input.
    """
    axes = len(kernel)
    dilations = model.attribute(node, "dilations") or [1] * axes
    rim = [rings * dilation for dilation in dilations] * 2
    automatic = model.attribute(node, "auto_pad", "NOTSET")
    if automatic == "VALID":
        return rim
    if automatic.startswith("SAME") or model.attribute(node, "output_shape"):
        if node.op_type == "ConvTranspose":
            return "its padding follows from the size of its output"
        return _same_pads(kernel, dilations, model.attribute(node, "strides") or [1] * axes, rim)
    pads = model.attribute(node, "pads") or [0] * 2 * axes
    return [pad + more for pad, more in zip(pads, rim, strict=True)]


def _same_pads(
    kernel: tuple[int, ...], dilations: list[int], strides: list[int], rim: list[int]
) -> list[int] | str | None:
    """Padding where ``auto_pad`` is SAME: ``max(0, window - 1 - (size - 1) mod stride)`` in all along an axis.

    Where a window is no smaller than its stride this is never cut off at 0, and grows by itself with the kernel. A
    window of 1 is never padded. In between it depends on the size of the input, which is not known here.
    """
    windows = [dilation * (size - 1) + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    if all(window >= stride for window, stride in zip(windows, strides, strict=True)):
        return None
    # With a stride above 3, ONNX Runtime pads by less than nothing, which is not what ONNX says.
    if all(window == 1 for window in windows) and max(strides) <= 3:
        return rim
    return "its automatic padding depends on the size of its input"
