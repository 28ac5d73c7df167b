"""Is batch normalisation folded into a layer's weights? What the file says, and the scale where it is still there.

Exporters fold by default and keep the layer's name, so a name proves nothing. Folding multiplies every filter by
gamma / sqrt(var + eps); a mark embedded before it reads with other margins after it, and the other way round. Where the
normalisation is still in the file both readings can be had; where it is gone, the file alone no longer holds the scale.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from onnxmark.model.dtypes import BY_NAME
from onnxmark.model.expression import Expression, Leaf
from onnxmark.model.locate import WeightSite
from onnxmark.model.plan import Obstacle, Planner
from onnxmark.model.records import Node
from onnxmark.model.scope import Scope


class FoldingState(StrEnum):
    """What is known of a layer's batch normalisation."""

    FOLDED = "folded"
    """A rewriter says so."""
    PROBABLY_FOLDED = "probably folded"
    """The name is one that folding tools make."""
    POSSIBLY_FOLDED = "possibly folded"
    """A bias and no normalisation: folded, or never normalised."""
    SEPARATE = "separate"
    """The normalisation follows the layer in the file."""
    NONE = "none"
    """Neither a bias nor a normalisation."""


@dataclass(frozen=True, slots=True)
class Folding:
    """A folding verdict with its evidence.

    Args:
        state: The verdict.
        evidence: What it rests on, in words, strongest first.
        folded: How to compute the weights with the normalisation folded in, where it is in the file and its parameters
            are constants; None otherwise.
    """

    state: FoldingState
    evidence: tuple[str, ...]
    folded: Expression | None = None


_RULE_KEY: Final = "pkg.onnxscript.rewriter.rule_name"
_FOLDING_RULE: Final = "FuseBatchNorm"
_SIGNATURE_KEY: Final = "pkg.torch.export.ExportedProgram.graph_signature"
_SIGNED_BATCH_NORM: Final = "running_var"
_NAMES: Final = (
    (re.compile(r"^ConvBnFusion_W_"), "ONNX Runtime names folded weights ConvBnFusion_W_…"),
    (re.compile(r"^onnx::Conv_\d+$"), "the TorchScript exporter names folded weights onnx::Conv_N"),
    (re.compile(r"_output_0_weight$"), "onnxslim names folded weights after the normalisation's output"),
    (re.compile(r"merged_input(:\d+)?$"), "tf2onnx names folded weights …/merged_input"),
    (re.compile(r"^_v_\d+$"), "onnxsim names folded weights _v_N"),
    (re.compile(r"^const_fold_opt__\d+$"), "tf2onnx names folded constants const_fold_opt__N"),
)
_CONVOLUTIONS: Final = frozenset(["Conv", "ConvTranspose", "FusedConv"])


def folding_of(site: WeightSite, planner: Planner) -> Folding | None:
    """The folding verdict on a site; None for layers that are no convolutions."""
    if not site.uses or site.op not in _CONVOLUTIONS:
        return None
    use = site.uses[0]
    scope, node = use.scope, use.scope.nodes[use.node]
    following = _batch_norm_after(scope, node)
    if following is not None:
        return Folding(
            FoldingState.SEPARATE,
            (f"BatchNormalization node {scope.node_path(following)!r} follows",),
            None if site.plan is None else _folded(site.plan, scope, scope.nodes[following], planner),
        )
    rules = scope.bodies.decoder.node_metadata(node).get(_RULE_KEY, "")
    named = [words for pattern, words in _NAMES if pattern.search(site.name)]
    biased = len(node.inputs) > 2 and bool(node.inputs[2])
    if _FOLDING_RULE in rules:
        return Folding(FoldingState.FOLDED, (f"node metadata {_RULE_KEY} = {rules}", *named))
    if named:
        return Folding(FoldingState.PROBABLY_FOLDED, tuple(named))
    if biased and _SIGNED_BATCH_NORM in _signature(scope):
        words = f"a bias, no normalisation after it, and {_SIGNATURE_KEY} still lists running variances"
        return Folding(FoldingState.PROBABLY_FOLDED, (words,))
    if biased:
        return Folding(FoldingState.POSSIBLY_FOLDED, ("a bias and no normalisation after it",))
    return Folding(FoldingState.NONE, ("no bias and no normalisation after it",))


def _signature(scope: Scope) -> str:
    """What PyTorch's exporter wrote of the program the graph came from."""
    return scope.bodies.decoder.metadata(scope.body.graph.metadata).get(_SIGNATURE_KEY, "")


def _batch_norm_after(scope: Scope, node: Node) -> int | None:
    """Index of the normalisation that is alone in using the layer's output."""
    users = scope.body.consumers.get(node.outputs[0], []) if node.outputs else []
    if len(users) != 1 or node.outputs[0] in scope.body.graph.outputs:
        return None
    index, place = users[0]
    user = scope.nodes[index]
    return index if user.op_type == "BatchNormalization" and place == 0 and len(user.inputs) == 5 else None


def _folded(weights: Expression, scope: Scope, node: Node, planner: Planner) -> Expression | None:
    """The canonical weights, every filter times gamma / sqrt(var + eps)."""
    gamma, variance = planner.plan(scope, node.inputs[1]), planner.plan(scope, node.inputs[4])
    filters = (weights.shape[0],)
    if isinstance(gamma, Obstacle) or isinstance(variance, Obstacle) or not gamma.shape == variance.shape == filters:
        return None
    float32 = BY_NAME["float32"]
    epsilon = scope.attributes(node).get("epsilon")
    arguments: tuple[Expression, ...] = (gamma, variance)
    if epsilon is not None and epsilon.numbers is not None and epsilon.numbers.dims == ():
        arguments += (planner.interner.leaf(Leaf("epsilon", "attribute", (), float32, epsilon.numbers)),)
    interner = planner.interner
    scale = interner.apply("batch norm scale", arguments, (), filters, float32)
    column = interner.apply("reshape", (scale,), (), (*filters, *(1 for _ in weights.shape[1:])), float32)
    floats = interner.apply("cast", (weights,), (1,), weights.shape, float32)
    return interner.apply(
        "multiply", (floats, column), (), weights.shape, float32, words="BatchNormalization folded in"
    )
