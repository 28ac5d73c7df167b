"""Lower precision, by ONNX Runtime's own tools: the integers and halves that really end up in a file.

:mod:`onnxmark.attacks.quantisation` computes what integers stand for; these store them, with the scales, operators and
exceptions of the tool, and quantise activations as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

from onnxmark.attacks.attack import FileMeans, Need
from onnxmark.model.deploying import conversions
from onnxmark.model.deploying.deployment import Change, Tool
from onnxmark.tools.tool import ONNXRUNTIME, ToolAttack


@dataclass(frozen=True, slots=True)
class HalfPrecision(ToolAttack):
    """Convert weights and activations to float16.

    Args:
        keep_io: Leave inputs and outputs of the model in float32.
    """

    name: ClassVar[str] = "to-float16"
    summary: ClassVar[str] = "convert the model to float16; whether its inputs and outputs stay float32"
    tool: ClassVar[Tool] = ONNXRUNTIME

    keep_io: bool = True

    @property
    def label(self) -> str:
        """``float16``, with what differs from the default."""
        return "float16 file" + ("" if self.keep_io else ", float16 inputs")

    def conversion(self, means: FileMeans) -> Change:
        """See :class:`onnxmark.tools.tool.ToolAttack`."""
        return lambda model: conversions.halved(model, self.keep_io)


@dataclass(frozen=True, slots=True)
class DynamicQuantisation(ToolAttack):
    """Store weights in 8 bits and quantise activations as the model runs.

    Args:
        bits: 8; 7 leaves one unused, as is advised for processors whose 16-bit sums would overflow.
        signed: int8 rather than uint8.
    """

    name: ClassVar[str] = "ort-dynamic"
    summary: ClassVar[str] = "quantise with ONNX Runtime, activations as it runs; bits a weight, 7 or 8"
    strengths: ClassVar[tuple[int, ...]] = (8, 7)
    tool: ClassVar[Tool] = ONNXRUNTIME

    bits: int = 8
    signed: bool = True

    def __post_init__(self) -> None:
        _check_bits(self.bits, (7, 8), "the dynamic quantiser")

    @property
    def label(self) -> str:
        """``dynamic quantisation to int8``."""
        return f"dynamic quantisation to {'' if self.signed else 'u'}int{self.bits}"

    def conversion(self, means: FileMeans) -> Change:
        """See :class:`onnxmark.tools.tool.ToolAttack`."""
        return lambda model: conversions.dynamically_quantised(model, self.bits, self.signed)


@dataclass(frozen=True, slots=True)
class StaticQuantisation(ToolAttack):
    """Store weights as integers and quantise activations over the range they have on calibration inputs.

    Args:
        bits: Of a weight: 4, 8 or 16. Activations have 8, or 16 where weights do.
        per_channel: A scale for each output channel, instead of one for the layer.
        form: ``qdq`` (float operators between QuantizeLinear and DequantizeLinear) or ``qoperator`` (operators on
            integers, 8 bits only).
    """

    name: ClassVar[str] = "ort-static"
    summary: ClassVar[str] = "quantise with ONNX Runtime and calibration inputs; bits a weight, 4, 8 or 16"
    needs: ClassVar[tuple[Need, ...]] = (Need.CALIBRATION,)
    strengths: ClassVar[tuple[int, ...]] = (16, 8, 4)
    tool: ClassVar[Tool] = ONNXRUNTIME

    bits: int = 8
    per_channel: bool = False
    form: str = "qdq"

    def __post_init__(self) -> None:
        if self.form not in conversions.FORMS:
            raise ValueError(f"form must be one of {', '.join(conversions.FORMS)}, found {self.form!r}")
        _check_bits(self.bits, (4, 8, 16) if self.form == "qdq" else (8,), f"the form {self.form!r}")

    @property
    def label(self) -> str:
        """``static quantisation to int8``, with what differs from the default."""
        variant = (", per channel" if self.per_channel else "") + ("" if self.form == "qdq" else ", QOperator")
        return f"static quantisation to int{self.bits}{variant}"

    def conversion(self, means: FileMeans) -> Change:
        """See :class:`onnxmark.tools.tool.ToolAttack`."""
        calibration = cast("Path", means.calibration)
        options = conversions.StaticOptions(self.bits, self.per_channel, self.form)
        return lambda model: conversions.statically_quantised(model, calibration, options)


@dataclass(frozen=True, slots=True)
class Int4Quantisation(ToolAttack):
    """Store the weights of matrix products in 4 bits, block by block; convolutions and Gemm are left as they are.

    Args:
        block: Inputs that share a scale: a power of two from 16.
        symmetric: Levels of both signs around zero, instead of a zero point a block.
    """

    name: ClassVar[str] = "ort-int4"
    summary: ClassVar[str] = "quantise matrix products to 4 bits with ONNX Runtime; inputs a block, 16 to 256"
    strengths: ClassVar[tuple[int, ...]] = (16, 32, 64, 128, 256)
    tool: ClassVar[Tool] = ONNXRUNTIME

    block: int = 32
    symmetric: bool = False

    def __post_init__(self) -> None:
        if type(self.block) is not int or self.block not in self.strengths:
            raise ValueError(f"block must be 16, 32, 64, 128 or 256, found {self.block!r}")

    @property
    def label(self) -> str:
        """``int4 quantisation in blocks of 32``."""
        return f"int4 quantisation in blocks of {self.block}" + (", symmetric" if self.symmetric else "")

    @property
    def caveats(self) -> tuple[str, ...]:
        """What is left in full precision."""
        return ("only MatMul is quantised; convolutions and Gemm are left as they are",)

    def conversion(self, means: FileMeans) -> Change:
        """See :class:`onnxmark.tools.tool.ToolAttack`."""
        return lambda model: conversions.blockwise_quantised(model, self.block, self.symmetric)


def _check_bits(bits: int, allowed: tuple[int, ...], where: str) -> None:
    if type(bits) is not int or bits not in allowed:
        raise ValueError(f"bits must be one of {', '.join(map(str, allowed))} for {where}, found {bits!r}")
