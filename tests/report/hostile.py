"""The same documents with every string that an attacker chooses replaced by something nasty."""

from tests.report.documents import audit

FREE = ("path", "name", "producer", "reason", "problem", "file", "stored", "why", "label", "recipe", "note", "attack")
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
        name: text if name in FREE and isinstance(entry, str) else infected(entry, text)
        for name, entry in value.items()
        if name != "tool"
    } | ({"tool": value["tool"]} if "tool" in value else {})
