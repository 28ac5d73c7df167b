"""Operators that treat each channel by itself and leave it where it is: activations, pooling, sums and products."""

from __future__ import annotations

from typing import Final

import numpy as np

from onnxmark.model.channels.groups import Commutes, Role
from onnxmark.model.channels.visit import Rule, Visit, operand, pass_on

_LINEAR, _HOMOGENEOUS, _ODD = Commutes.LINEAR, Commutes.HOMOGENEOUS, Commutes.ODD
_ZERO, _NOTHING = Commutes.ZERO, Commutes.NOTHING


def elementwise(commutes: Commutes) -> Rule:
    """Operators with one operand that treat each channel by itself and keep its axis; attributes do not matter."""

    def rule(visit: Visit) -> None:
        flood, node = visit.flood, visit.node
        extra = [name for name in node.output[1:] if name and flood.model.consumers(name)]
        if extra or visit.place not in (None, 0):
            return visit.stop("does more with the channels than is followed")
        pass_on(visit, commutes)
        return None

    return rule


def spatial(commutes: Commutes) -> Rule:
    """Pooling: treats each channel by itself where the channels are in the second axis."""
    plain = elementwise(commutes)

    def rule(visit: Visit) -> None:
        if not visit.is_channel_axis(visit.flood.rank(visit.value)):
            return visit.stop("pools along the channels, or the rank is not known")
        return plain(visit)

    return rule


def clip(visit: Visit) -> None:
    """Clip: a ReLU, or odd, or neither."""
    low, high = (_bound(visit, place, name) for place, name in ((1, "min"), (2, "max")))
    if low == 0 and high >= np.finfo(np.float32).max:
        commutes = _HOMOGENEOUS
    elif low == -high:
        commutes = _ODD
    else:
        commutes = _ZERO if low <= 0 <= high else _NOTHING
    elementwise(commutes)(visit)


def _bound(visit: Visit, place: int, name: str) -> float:
    model = visit.flood.model
    missing = -np.inf if name == "min" else np.inf
    if visit.given(place):
        found = model.constant(visit.node.input[place])
        # NaN: known to nobody, equal to nothing.
        return np.nan if found is None or found.size != 1 else float(found.reshape(-1)[0])
    return float(model.attribute(visit.node, name, missing))


def cast(visit: Visit) -> None:
    """Cast to another floating-point type; integers round, and booleans lose the channel."""
    target = visit.flood.model.attribute(visit.node, "to")
    elementwise(_LINEAR if target in (1, 10, 11, 16) else _ZERO)(visit)


def cast_like(visit: Visit) -> None:
    """CastLike: of its second operand only the type counts."""
    if visit.place != 1:
        visit.stop("may round the channels")


def prelu(visit: Visit) -> None:
    """PRelu, whose slopes are one a channel or one for all."""
    if visit.place not in (None, 0):
        return visit.stop("has slopes that are computed")
    pass_on(visit, _HOMOGENEOUS)
    if operand(visit, 1, Role.SLOPE, moves=False):
        visit.stop("has slopes that are computed")
    return None


def sums(visit: Visit) -> None:
    """Add, Sub, Sum, Mean: all operands that have the channels have the same; constants are rescaled with them."""
    _many(visit, _LINEAR, Role.SHIFT, moves=True)


def extremes(visit: Visit) -> None:
    """Max and Min."""
    _many(visit, _HOMOGENEOUS, Role.SHIFT, moves=True)


def factors(visit: Visit) -> None:
    """Mul and Div: constants stay as the channels are rescaled; a product of two channels is not linear in either."""
    live = _many(visit, _LINEAR, Role.FACTOR, moves=False)
    node = visit.node
    divided = node.op_type == "Div" and node.input[1] in live
    # Constants alone make a value that no factor of the channels is in.
    if len(live) != 1 or divided:
        visit.flood.limit(node.output[0], _NOTHING if divided or not live else _ZERO)


def powers(visit: Visit) -> None:
    """Pow: no factor passes."""
    _many(visit, _NOTHING, Role.FACTOR, moves=False)


def _many(visit: Visit, commutes: Commutes, role: Role, *, moves: bool) -> list[str]:
    """Operators with several operands, broadcast against each other; returns those that hold the channels."""
    flood, node = visit.flood, visit.node
    if flood.model.attribute(node, "broadcast"):
        visit.stop("broadcasts by the rules of an operator set before 7")
        return []
    flood.reach(node.output[0], visit.slot)
    flood.limit(node.output[0], commutes)
    live = []
    for place in range(len(node.input)):
        if operand(visit, place, role, moves=moves):
            live.append(node.input[place])
            flood.reach(node.input[place], visit.slot)
            flood.join(node.output[0], node.input[place])
    return live


RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(("Identity", "Dropout", "Neg"), elementwise(_LINEAR)),
    **dict.fromkeys(("Relu", "LeakyRelu", "Abs"), elementwise(_HOMOGENEOUS)),
    **dict.fromkeys(("Tanh", "Sin", "Sinh", "Asinh", "Atan", "Softsign", "Erf", "Sign"), elementwise(_ODD)),
    **dict.fromkeys(
        (
            "HardSwish", "Swish", "Elu", "Selu", "Celu", "Gelu", "Mish", "Ceil", "Floor", "Round", "ThresholdedRelu",
            "Shrink",
        ),
        elementwise(_ZERO),
    ),
    # Some are odd, or map 0 to 0, but are not defined everywhere: a new channel drawn at random could make NaN there.
    **dict.fromkeys(
        (
            "Sigmoid", "HardSigmoid", "Softplus", "Exp", "Cos", "Cosh", "Log", "Sqrt", "Reciprocal", "Asin", "Acos",
            "Atanh", "Tan",
        ),
        elementwise(_NOTHING),
    ),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool"), spatial(_LINEAR)),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "LpPool", "GlobalLpPool"), spatial(_HOMOGENEOUS)),
    "Clip": clip,
    "Cast": cast,
    "CastLike": cast_like,
    "PRelu": prelu,
    **dict.fromkeys(("Add", "Sub", "Sum", "Mean"), sums),
    **dict.fromkeys(("Max", "Min"), extremes),
    **dict.fromkeys(("Mul", "Div"), factors),
    "Pow": powers,
}  # fmt: skip
