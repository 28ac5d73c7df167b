"""What all attacks by a tool share: the whole file goes in, and the report says which tool of which version it was."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final, Protocol

from onnxmark.attacks.attack import FileMeans, ModelAttack, missing
from onnxmark.errors import AttackError
from onnxmark.model.deploying.deployment import Change, Tool, convert

ONNXRUNTIME: Final = Tool("onnxruntime", "runtime")


class ToolAttack(ModelAttack, Protocol):
    """A model attack that calls one tool, which knows nothing of layers."""

    tool: ClassVar[Tool]
    """Whose code it runs."""

    @property
    def caveats(self) -> tuple[str, ...]:
        """What is to be known of every result, in sentences."""
        return ()

    def conversion(self, means: FileMeans) -> Change:
        """The call of the tool, with everything named in ``needs`` at hand."""
        ...

    def rewrite(self, source: Path, output: Path, means: FileMeans) -> tuple[str, ...]:
        """See :class:`onnxmark.attacks.attack.ModelAttack`."""
        lacking = missing(self.needs, means)
        if lacking:
            raise AttackError(f"attack {self.name!r} on {str(source)!r} needs {lacking}")
        said = convert(source, output, self.tool, self.conversion(means))
        everywhere = () if means.layers is None else (f"{self.tool.package} rewrites all layers, not only those named",)
        return (*said, *self.caveats, *everywhere)
