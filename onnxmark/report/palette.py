"""The colours of a web report, light and dark: few, and every text readable on every ground it stands on.

Kept apart from the style sheet so that a test can compute the contrast of each pair.
"""

from __future__ import annotations

from typing import Final

LIGHT: Final = {
    "paper": "#ffffff",
    "wash": "#f5f4f0",
    "ink": "#1d2024",
    "soft": "#565b62",
    "line": "#d8d5cd",
    "good": "#17653a",
    "bad": "#a3232b",
    "doubt": "#855000",
    "good-wash": "#e9f3ec",
    "bad-wash": "#faecec",
    "doubt-wash": "#faf1e0",
}
DARK: Final = {
    "paper": "#15171a",
    "wash": "#1e2125",
    "ink": "#e7e6e3",
    "soft": "#a3a8af",
    "line": "#3a3e44",
    "good": "#6fc793",
    "bad": "#ff908c",
    "doubt": "#e3b15a",
    "good-wash": "#17261d",
    "bad-wash": "#2e1b1c",
    "doubt-wash": "#2b2314",
}
GROUNDS: Final = {
    "ink": ("paper", "wash", "good-wash", "bad-wash", "doubt-wash"),
    "soft": ("paper", "wash", "good-wash", "bad-wash", "doubt-wash"),
    "good": ("paper", "wash", "good-wash"),
    "bad": ("paper", "wash", "bad-wash"),
    "doubt": ("paper", "wash", "doubt-wash"),
}
"""Which text colour stands on which ground."""


def properties(palette: dict[str, str]) -> str:
    """A palette as CSS custom properties."""
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())
