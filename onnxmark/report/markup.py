"""Elements and text of HTML and SVG: the one door through which a string enters a web report.

Attribute names and element names are ours, written in this package; values and text are anybody's.
"""

from __future__ import annotations

import html

from onnxmark.report.text import MAX_TEXT, plain


def text(value: str) -> str:
    """A string as text or as the value of a quoted attribute: visible characters only, none of them markup."""
    return html.escape(plain(value, MAX_TEXT), quote=True)


def number(value: float) -> str:
    """A coordinate: one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")


def element(name: str, content: str = "", /, **attributes: str | float) -> str:
    """An element with content that is markup already; ``class_`` stands for ``class``, ``_`` in a name for ``-``."""
    return f"{_start(name, attributes)}>{content}</{name}>"


def void(name: str, /, **attributes: str | float) -> str:
    """An element without content, closed as both HTML and XML read it."""
    return f"{_start(name, attributes)}/>"


def _start(name: str, attributes: dict[str, str | float]) -> str:
    return f"<{name}" + "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(key, value)}"'
        for key, value in attributes.items()
        if value != ""
    )


def _value(key: str, value: str | float) -> str:
    if not isinstance(value, str):
        return number(value)
    # A path is drawn by us, of numbers and letters, and may be longer than any text.
    return html.escape(value) if key == "d" else text(value)
