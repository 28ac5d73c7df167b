"""The colours of a web report, light and dark: few, and every text readable on every ground it stands on.

Kept apart from the style sheet so that a test can compute the contrast of each pair.
"""

from __future__ import annotations

from typing import Final

SERIES: Final = 6
"""Colours that set the lines of a chart apart; they are never that of a verdict."""

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
    "series-0": "#1f5fbf",
    "series-1": "#a85300",
    "series-2": "#00756a",
    "series-3": "#8a3f9c",
    "series-4": "#3d4148",
    "series-5": "#b02a58",
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
    "series-0": "#82b4ff",
    "series-1": "#f2a660",
    "series-2": "#4ecbb8",
    "series-3": "#d6a0e8",
    "series-4": "#d5d7db",
    "series-5": "#ff9ab5",
}
GROUNDS: Final = {
    "ink": ("paper", "wash", "good-wash", "bad-wash", "doubt-wash"),
    "soft": ("paper", "wash", "good-wash", "bad-wash", "doubt-wash"),
    "good": ("paper", "wash", "good-wash"),
    "bad": ("paper", "wash", "bad-wash"),
    "doubt": ("paper", "wash", "doubt-wash"),
    **{f"series-{index}": ("paper",) for index in range(SERIES)},
}
"""Which text colour stands on which ground; lines are held to the same as text."""


def properties(palette: dict[str, str]) -> str:
    """A palette as CSS custom properties."""
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())
