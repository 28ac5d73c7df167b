"""Exit codes, in one place: help, documentation and tests are generated from this enumeration."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell gets back."""

    DONE = 0
    NOT_SATISFIED = 1
    ERROR = 2
    INCONCLUSIVE = 3
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """One line for people."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.DONE: "done (audit: mark found)",
    ExitCode.NOT_SATISFIED: "policy not satisfied (audit: no match)",
    ExitCode.ERROR: "usage or tool error",
    ExitCode.INCONCLUSIVE: "inconclusive or incomplete: unreadable model, no layer fits, degenerate weights",
    ExitCode.INTERRUPTED: "interrupted",
}
