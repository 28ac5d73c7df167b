"""What every chart is made of: marks that differ in shape, labels, level lines, and the frame with its description."""

from __future__ import annotations

from collections.abc import Sequence

from onnxmark.report.markup import element, number, text, void
from onnxmark.report.page import Tone


def titled(x: float, y: float, tone: Tone, words: str) -> str:
    """A mark that tells what it stands for when pointed at."""
    return element("g", element("title", text(words)) + mark(x, y, tone))


def mark(x: float, y: float, tone: Tone) -> str:
    """A disc, a cross or an open diamond."""
    if tone is Tone.GOOD:
        return void("circle", class_="good", cx=x, cy=y, r=4)
    if tone is Tone.BAD:
        return void("path", class_="cross bad", d=f"M{number(x - 4)} {number(y - 4)}l8 8m0-8l-8 8")
    return void("path", class_=f"open {tone}", d=f"M{number(x)} {number(y - 5)}l5 5-5 5-5-5z")


def grid(start: float, end: float, ticks: Sequence[tuple[float, float]]) -> str:
    """Level lines at heights, and their values to the left."""
    lines = "".join(f"M{number(start)} {number(y)}H{number(end)}" for y, _ in ticks)
    values = "".join(label(start - 5, y + 4, f"{value:g}") for y, value in ticks)
    return void("path", class_="grid", d=lines) + element("g", values, class_="e")


def below(bottom: float, ticks: Sequence[tuple[float, str]]) -> str:
    """The values of a horizontal axis."""
    return element("g", "".join(label(x, bottom + 16, words) for x, words in ticks), class_="m")


def label(x: float, y: float, words: str, classes: str = "") -> str:
    """Text whose base line starts at a point; the classes ``m`` and ``e`` centre it there and end it there."""
    return element("text", text(words), x=x, y=y, class_=classes)


def drawing(width: float, height: float, title: str, description: str, body: str, classes: str = "") -> str:
    """A chart at its natural size, with a title and a description for those who do not see it."""
    head = element("title", text(title)) + element("desc", text(description))
    box = f"0 0 {number(width)} {number(height)}"
    return element("svg", head + body, class_=classes, viewBox=box, width=width, height=height, role="img")
