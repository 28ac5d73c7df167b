"""From the codes that integer operators take to the weights they stand for: ``(code - zero point) * scale``.

The zero point is an input of every such operator. The scale is an input of most; ConvInteger and MatMulInteger leave
it to a multiplication further on, where it is found by following the output.
"""

from __future__ import annotations

from math import prod

from onnxmark.model.dtypes import BY_NAME, DType
from onnxmark.model.expression import Apply, Expression, Leaf
from onnxmark.model.hosts import Host, Unfit
from onnxmark.model.layouts import is_left_factor
from onnxmark.model.plan import Obstacle
from onnxmark.model.scope import Scope

_FLOAT32 = BY_NAME["float32"]
_SCALE_WITHIN = 6
"""Nodes between an integer product and the multiplication by its scale."""


def linear_convolution(host: Host) -> Expression:
    """QLinearConv: scale and zero point follow the weights."""
    return _dequantized(host, host.constant(4, "scale"), 5, axis=0)


def linear_product(host: Host) -> Expression:
    """QLinearMatMul and QGemm: so, too, for either factor."""
    scale = host.constant(host.place + 1, "scale")
    return _dequantized(host, scale, host.place + 2, _output_axis(host))


def dynamic_product(host: Host) -> Expression:
    """DynamicQuantizeMatMul: activation, codes, scale, zero point."""
    return _dequantized(host, host.constant(2, "scale"), 3, _output_axis(host))


def product_to_float(host: Host) -> Expression:
    """MatMulIntegerToFloat: activation, codes, two scales, two zero points."""
    return _dequantized(host, host.constant(3, "scale"), 5, _output_axis(host))


def integer_convolution(host: Host) -> Expression:
    """ConvInteger."""
    return _integer(host, 3, axis=0)


def integer_product(host: Host) -> Expression:
    """MatMulInteger."""
    return _integer(host, host.place + 2, _output_axis(host))


def blockwise_product(host: Host) -> Expression:
    """MatMulNBits: packed codes (out, blocks, bytes), least significant first → (out, in)."""
    inputs, outputs = host.integer("K"), host.integer("N")
    bits, size = host.integer("bits", 4), host.integer("block_size")
    if bits not in (2, 4, 8) or size < 1 or inputs < 1 or outputs < 1:
        raise Unfit(f"MatMulNBits of {bits} bits in blocks of {size}, {inputs} to {outputs}")
    if host.given(4):
        raise Unfit("MatMulNBits with reordered groups (g_idx)")
    blocks = -(-inputs // size)
    if prod(host.native.shape) * 8 != outputs * blocks * size * bits or host.native.dtype.name != "uint8":
        raise Unfit(f"codes {host.native.dtype.name} {host.native.shape} do not hold {outputs} x {inputs} weights")
    scale = host.constant(2, "scale")
    if prod(scale.shape) != outputs * blocks:
        raise Unfit(f"a scale of shape {scale.shape} for {outputs} x {blocks} blocks")
    interner, shape = host.interner, (outputs, blocks * size)
    codes = interner.apply("unpack", (host.native,), (bits,), shape, host.native.dtype)
    arguments = (codes, _reshaped(host, scale, (outputs, blocks)), _block_zeros(host, bits, outputs, blocks))
    words = f"MatMulNBits(bits={bits}, block_size={size})"
    step: Expression = interner.apply("dequantize", arguments, (1, size), shape, _FLOAT32, words=words)
    return step if shape[1] == inputs else interner.apply("crop", (step,), (), (outputs, inputs), _FLOAT32)


def _block_zeros(host: Host, bits: int, outputs: int, blocks: int) -> Expression:
    """A zero point a block, shape (out, blocks); the middle of the codes where the node names none."""
    interner, shape = host.interner, (outputs, blocks)
    if not host.given(3):
        middle = interner.leaf(Leaf("", "MatMulNBits", (), BY_NAME["int64"], integers=(1 << bits - 1,)))
        return interner.apply("broadcast", (middle,), (), shape, middle.dtype)
    zeros = host.constant(3, "zero point")
    if zeros.dtype.kind == "f" and prod(zeros.shape) == prod(shape):
        return _reshaped(host, zeros, shape)
    padded = (outputs, -(-blocks * bits // 8) * 8 // bits)
    if zeros.dtype.name != "uint8" or prod(zeros.shape) * 8 != prod(padded) * bits:
        raise Unfit(f"zero points {zeros.dtype.name} {zeros.shape} for {outputs} x {blocks} blocks")
    codes = interner.apply("unpack", (zeros,), (bits,), padded, zeros.dtype)
    return codes if padded == shape else interner.apply("crop", (codes,), (), shape, zeros.dtype)


def _integer(host: Host, zero_place: int, axis: int) -> Expression:
    native = host.native
    if isinstance(native, Apply) and native.step == "dynamic quantize":
        # Quantised when the model runs: the file still holds the floats, which say more.
        floats = native.arguments[0]
        return host.interner.apply("identity", (floats,), (), floats.shape, floats.dtype, words=native.words)
    scale = _scale_after(host)
    if scale is not None and prod(scale.shape) in (1, native.shape[axis]):
        return _dequantized(host, scale, zero_place, axis)
    # One positive factor for all weights changes the sign of no score.
    one = host.interner.leaf(Leaf("", host.node.op_type, (), BY_NAME["int64"], integers=(1,)))
    return _dequantized(host, one, zero_place, axis, words=f"{host.node.op_type} codes (no scale found)")


def _dequantized(host: Host, scale: Expression, zero_place: int, axis: int, words: str = "") -> Expression:
    codes = host.native
    if codes.dtype.kind not in "iu" and codes.dtype.bits != 8:
        raise Unfit(f"{host.node.op_type} takes integers, not {codes.dtype.name}")
    arguments = [codes, _per_channel(host, scale, axis, "scale")]
    if host.given(zero_place):
        arguments.append(_per_channel(host, host.constant(zero_place, "zero point"), axis, "zero point"))
    per_channel = prod(scale.shape) > 1
    words = words or f"{host.node.op_type} scale" + (f"(axis={axis})" if per_channel else "")
    result = _result_type(scale.dtype)
    return host.interner.apply("dequantize", tuple(arguments), (axis, 0), codes.shape, result, words=words)


def _result_type(dtype: DType) -> DType:
    return dtype if dtype.kind == "f" else _FLOAT32


def _per_channel(host: Host, factors: Expression, axis: int, what: str) -> Expression:
    """Factors with one axis or none; runtimes give them others of length one."""
    count = prod(factors.shape)
    if count not in (1, host.native.shape[axis]):
        raise Unfit(f"a {what} of shape {factors.shape} for weights of shape {host.native.shape}")
    return _reshaped(host, factors, () if count == 1 else (count,))


def _reshaped(host: Host, values: Expression, shape: tuple[int, ...]) -> Expression:
    if values.shape == shape:
        return values
    return host.interner.apply("reshape", (values,), (), shape, values.dtype)


def _output_axis(host: Host) -> int:
    """Axis of the output channels in the order of the node."""
    rank = len(host.native.shape)
    left = is_left_factor(host)
    return rank - 1 - int(left != bool(host.integer("transA" if left else "transB")))


def _scale_after(host: Host) -> Expression | None:
    """The constant that multiplies the node's output, after Casts and multiplications by activations' scales.

    What is added to integers, as older quantisers add the bias, has their scale, too.
    """
    scope, name = host.scope, host.node.outputs[0] if host.node.outputs else ""
    passing = {"Add", "Cast", "Mul"}
    for _ in range(_SCALE_WITHIN):
        users = scope.body.consumers.get(name, [])
        if len(users) != 1:
            return None
        index, place = users[0]
        user = scope.nodes[index]
        if user.op_type not in passing or not user.outputs:
            return None
        if user.op_type == "Cast":
            passing.discard("Add")
        if user.op_type == "Mul" and len(user.inputs) == 2:
            found = _factors(host, scope, user.inputs[1 - place])
            if found:
                # Where the activation's scale is constant, too, the weights' may be told by its length.
                return max(reversed(found), key=lambda factor: prod(factor.shape))
        name = user.outputs[0]
    return None


def _factors(host: Host, scope: Scope, name: str) -> list[Expression]:
    """The constants among the factors of the product ``name``, or itself if it is constant and no product."""
    definition = scope.lookup(name)
    if definition is not None and definition.kind == "node":
        maker = definition.scope.nodes[definition.node]
        if maker.op_type == "Mul":
            outcomes = [host.planner.plan(definition.scope, source) for source in maker.inputs]
            return [outcome for outcome in outcomes if not isinstance(outcome, Obstacle)]
    outcome = host.planner.plan(scope, name)
    return [] if isinstance(outcome, Obstacle) else [outcome]
