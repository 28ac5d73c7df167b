"""The same documents with every string that an attacker chooses replaced by something nasty."""

from tests.report.documents import audit

FREE = (
    *("path", "name", "producer", "reason", "problem", "file", "stored", "why", "label", "recipe", "note", "attack"),
    *("identity", "layout", "location", "roots", "examples", "places", "models"),
)
"""Fields whose text comes, or may come, from a file or its author."""


def hostile_audit(text, situation):
    """An audit in which every free string is ``text``."""
    return infected(audit(situation), text)


def infected(value, text):
    """The value with every string under a field of :data:`FREE` replaced, wherever it stands."""
    if isinstance(value, list):
        return [infected(entry, text) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        name: replaced(entry, text) if name in FREE else infected(entry, text)
        for name, entry in value.items()
        if name != "tool"
    } | ({"tool": value["tool"]} if "tool" in value else {})


def replaced(value, text):
    """The text in place of a string or of each string in a list."""
    if isinstance(value, str):
        return text
    if isinstance(value, list) and value and all(isinstance(entry, str) for entry in value):
        return [text] * len(value)
    return infected(value, text)
