"""What an operator wants to be woken up for: whoever hunts copies and whoever checks releases want opposite alarms."""

from __future__ import annotations

from enum import StrEnum

from onnxmark.report.formats import Document


class Alarm(StrEnum):
    """What makes a scan fail, although it was carried out."""

    MATCH = "match"
    """A model is consistent with a key: for whoever looks for copies."""
    NO_MATCH = "no-match"
    """A model is consistent with no key: for whoever releases marked models."""
    INCONCLUSIVE = "inconclusive"
    """About a model or a key nothing could be said."""
    NEVER = "never"


def raised(document: Document, alarm: Alarm) -> bool:
    """Whether a scan document gives this alarm.

    Args:
        document: Of a scan.
        alarm: What to be alarmed by.
    """
    entries = document["entries"]
    if alarm is Alarm.INCONCLUSIVE:
        # A model that matches one key may still be in doubt about another.
        return any(entry["verdict"] == "inconclusive" or _doubtful(entry) for entry in entries)
    return any(entry["verdict"] == alarm for entry in entries)


def _doubtful(entry: Document) -> bool:
    return any(finding["verdict"] == "inconclusive" for finding in entry["findings"])
