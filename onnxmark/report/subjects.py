"""Audits and scans alike for tools that collect results: models, what was found in each, and what counts as a failure.

An audit is about one model, and asks that its marks be there. A scan is about many, and its operator says what is to be
an alarm: a match for whoever looks for copies, a model without one for whoever releases marked models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxmark.report.formats import Document


@dataclass(frozen=True, slots=True)
class Subject:
    """One model of a document.

    Args:
        name: As its owner names it.
        location: Path or URL.
        model: Its size and digest, where they are known.
        findings: One for each key that something is said about.
        unread: Layers that a key fits and that could not be read.
        problem: Why it could not be audited, or None.
    """

    name: str
    location: str
    model: Document
    findings: Sequence[Document]
    unread: Sequence[Document]
    problem: str | None

    @property
    def clean(self) -> bool:
        """Whether it was audited and nothing is to be said of any key."""
        return self.problem is None and not self.findings

    @property
    def remarkable(self) -> bool:
        """Whether there is anything to be said of it."""
        return not self.clean or bool(self.unread)


def subjects_of(document: Document) -> tuple[Subject, ...]:
    """The models of an audit or scan document."""
    if "entries" in document:
        return tuple(_entry(entry) for entry in document["entries"])
    model, unread = document["model"], document.get("coverage", {}).get("failed", ())
    failed = document["status"] == "failed"
    problem = document["problem"] if failed else None
    return (Subject(model["path"], model["path"], model, document["findings"], () if failed else unread, problem),)


def _entry(entry: Document) -> Subject:
    model = entry["model"]
    return Subject(model["identity"], model["location"], model, entry["findings"], entry["unread"], entry["problem"])


def alarm_of(document: Document) -> str:
    """The verdict that fails: for an audit, that the mark is not there."""
    return str(document["policy"]["fail_on"]) if "entries" in document else "no-match"


def absence_of(document: Document) -> str:
    """What is said of a model that is consistent with no key of a scan."""
    return f"The model is consistent with none of {document['keys']['count']:,} keys."
