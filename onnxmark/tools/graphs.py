"""Graph optimisers: what runs before almost every deployment, and folds, fuses and renames.

Values stay what they are but for batch normalisation folded in; names, operators and layouts do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxmark.attacks.attack import FileMeans
from onnxmark.model.deploying import conversions
from onnxmark.model.deploying.deployment import Change, Tool
from onnxmark.tools.tool import ONNXRUNTIME, ToolAttack


@dataclass(frozen=True, slots=True)
class RuntimeOptimisation(ToolAttack):
    """Save the graph as ONNX Runtime would run it.

    Args:
        level: ``basic`` folds constants and batch normalisation, ``extended`` also fuses operators into ONNX Runtime's
            own, ``layout`` and ``all`` also store convolutions in blocks of channels as wide as this machine's vector
            registers: such a file may run slowly, or not at all, on another.
    """

    name: ClassVar[str] = "ort-optimize"
    summary: ClassVar[str] = "save the graph as ONNX Runtime optimises it; level basic, extended, layout or all"
    strengths: ClassVar[tuple[str, ...]] = ("basic", "extended", "all")
    tool: ClassVar[Tool] = ONNXRUNTIME

    level: str = "basic"

    def __post_init__(self) -> None:
        if self.level not in conversions.LEVELS:
            raise ValueError(f"level must be one of {', '.join(conversions.LEVELS)}, found {self.level!r}")

    @property
    def parameter(self) -> float:
        """Place of the level among all, from 1 for ``basic`` to 4 for ``all``."""
        return 1.0 + conversions.LEVELS.index(self.level)

    @property
    def label(self) -> str:
        """``ONNX Runtime, basic optimisations``."""
        return f"ONNX Runtime, {self.level} optimisations"

    @property
    def caveats(self) -> tuple[str, ...]:
        """That the layout is this machine's, where it is."""
        if self.level in ("basic", "extended"):
            return ()
        return ("weights are laid out for this machine's processor; the file is not meant for another",)

    def conversion(self, means: FileMeans) -> Change:
        """See :class:`onnxmark.tools.tool.ToolAttack`."""
        return lambda model: conversions.optimised(model, self.level)


@dataclass(frozen=True, slots=True)
class Simplification(ToolAttack):
    """Run onnxsim: constants folded, batch normalisation folded in, dead ends removed."""

    name: ClassVar[str] = "onnxsim"
    summary: ClassVar[str] = "simplify the graph with onnxsim; no parameter"
    tool: ClassVar[Tool] = Tool("onnxsim", "tools")

    @property
    def label(self) -> str:
        """``onnxsim``."""
        return self.name

    def conversion(self, means: FileMeans) -> Change:
        """See :class:`onnxmark.tools.tool.ToolAttack`."""
        return conversions.simplified


@dataclass(frozen=True, slots=True)
class Slimming(ToolAttack):
    """Run onnxslim: as onnxsim, in Python, with other names."""

    name: ClassVar[str] = "onnxslim"
    summary: ClassVar[str] = "simplify the graph with onnxslim; no parameter"
    tool: ClassVar[Tool] = Tool("onnxslim", "tools")

    @property
    def label(self) -> str:
        """``onnxslim``."""
        return self.name

    def conversion(self, means: FileMeans) -> Change:
        """See :class:`onnxmark.tools.tool.ToolAttack`."""
        return conversions.slimmed


@dataclass(frozen=True, slots=True)
class PassOptimisation(ToolAttack):
    """Run onnxoptimizer's fusing and eliminating passes.

    Where it folds batch normalisation, version 0.4.2 leaves the raw weights in the file and nodes that compute the
    folded ones from them.
    """

    name: ClassVar[str] = "onnxoptimizer"
    summary: ClassVar[str] = "rewrite the graph with onnxoptimizer's default passes; no parameter"
    tool: ClassVar[Tool] = Tool("onnxoptimizer", "tools")

    @property
    def label(self) -> str:
        """``onnxoptimizer``."""
        return self.name

    def conversion(self, means: FileMeans) -> Change:
        """See :class:`onnxmark.tools.tool.ToolAttack`."""
        return conversions.passed
