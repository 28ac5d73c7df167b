"""What was done to a model and what was left alone, for a report that hides neither."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from onnxmark.errors import AttackError

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Account:
    """Layers by what became of them; filled as an attack goes along.

    Args:
        done: Names of the layers changed.
        left: Names of the layers left alone, by the reason.
    """

    done: list[str] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)

    def leave(self, name: str, reason: str) -> None:
        """Note a layer that stays as it is."""
        self.left.setdefault(reason, []).append(name)

    def require(self, source: Path, what: str) -> None:
        """Hold the attack to its promise that it changes something.

        Args:
            source: The model.
            what: What should have been done, in the passive (``have batch normalisation folded in``).

        Raises:
            AttackError: Nothing was done.
        """
        if not self.done:
            why = "; ".join(self._reasons()[:_SHOWN]) or "there is none it applies to in the main graph"
            raise AttackError(f"{str(source)!r}: no layer can {what} ({why}); try another attack")

    def sentences(self, done: str) -> tuple[str, ...]:
        """The report: ``done`` with the layers it was done to, then a sentence for each reason."""
        return (f"{done}: {_listing(self.done)}", *(f"left alone: {reason}" for reason in self._reasons()))

    def _reasons(self) -> tuple[str, ...]:
        return tuple(f"{_listing(names)}, {reason}" for reason, names in self.left.items())


def _listing(names: list[str]) -> str:
    """The number of names and the first of them."""
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{len(names)} ({shown}{', …' if len(names) > _SHOWN else ''})"
