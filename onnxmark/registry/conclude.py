"""What a whole scan shows: every outcome judged once, against everything that was tried anywhere in it.

A worker cannot give a verdict, because it does not know how much the others try. So the outcomes of all models come
together here, and the probability of each reading is corrected for the readings of all keys in all models. The document
depends on models, keys and policy alone: not on the order in which results came, nor on how often the scan was stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from onnxmark.errors import ReportError
from onnxmark.registry.alarms import Alarm
from onnxmark.registry.entries import Found, Outcome
from onnxmark.registry.lineage import compared, groups_of
from onnxmark.registry.urls import public
from onnxmark.report.documents.findings import ABSENCE, judged_document, unread_document
from onnxmark.report.documents.plain import head
from onnxmark.report.formats import Document, Kind
from onnxmark.schemes.evidence import Evidence
from onnxmark.verdict import Policy, Verdict, inconclusive, judge, overall

UNFINISHED: Final = "not audited: the scan ended before it came to this model; run the same command to go on"
_EXAMPLES: Final = 5
"""Places named for each reason for which something was left out."""


def conclude(
    results: Iterable[tuple[Found, Document | None]],
    policy: Policy,
    *,
    roots: Sequence[str],
    keys: Sequence[Document],
    fail_on: Alarm = Alarm.NEVER,
    baseline: Document | None = None,
) -> Document:
    """The document of a scan.

    Args:
        results: Everything found, in any order; each model with its outcome, None where there is none yet, and
            everything else with None.
        policy: What is asked of a reading.
        roots: Where it was looked.
        keys: Public side of the keys; see :func:`onnxmark.report.documents.findings.public_key`.
        fail_on: What the operator is to be alarmed by.
        baseline: An older scan document to compare matches with.

    Raises:
        ReportError: The baseline is no scan document.
    """
    if baseline is not None and baseline["schema"] != Kind.SCAN.value:
        raise ReportError(f"the baseline is a document of {baseline['schema']}, expected {Kind.SCAN.value}")
    named = list(_named(results))
    court = _Court(
        policy,
        n_hypotheses=sum(raw["n_hypotheses"] for _, raw in named if raw is not None),
        keys={key["commitment"]: key for key in keys},
    )
    entries = [court.entry(found, raw) for found, raw in named if found.outcome in (Outcome.MODEL, Outcome.FAILED)]
    coverage = _coverage([found for found, _ in named], entries)
    return {
        **head(Kind.SCAN),
        "status": _status(entries, coverage),
        "verdict": str(overall([Verdict(entry["verdict"]) for entry in entries])),
        "roots": [public(root) for root in roots],
        "coverage": coverage,
        "policy": court.policy_document(fail_on),
        "keys": {"count": len(court.keys), "commitments": sorted(court.keys)},
        "summary": _summary(entries),
        "entries": entries,
        "groups": groups_of(entries),
        "does_not_prove": _caveats(entries),
        "baseline": None if baseline is None else compared(baseline, entries, sorted(court.keys)),
    }


@dataclass(frozen=True, slots=True)
class _Court:
    """Everything a verdict depends on besides the reading."""

    policy: Policy
    n_hypotheses: int
    keys: dict[str, Document]

    def policy_document(self, fail_on: Alarm) -> Document:
        return {
            "alpha": self.policy.alpha,
            "correction": "bonferroni",
            "n_hypotheses": self.n_hypotheses,
            "log10_alpha": self.policy.log10_alpha,
            "log10_seed_search": self.policy.log10_seed_search,
            "registered": self.policy.registered,
            "fail_on": str(fail_on),
        }

    def entry(self, found: Found, raw: Document | None) -> Document:
        """What is said of one model."""
        problem = found.reason or UNFINISHED if raw is None else raw["problem"]
        audited = raw if raw is not None and problem is None else None
        facts = (audited or {}).get("model") or {}
        findings = [] if audited is None else self._findings(audited)
        return {
            "model": {
                "identity": found.identity,
                "layout": found.layout,
                "location": public(found.location),
                "bytes": facts.get("bytes", found.size),
                "sha256": facts.get("sha256"),
                "converted_from": facts.get("converted_from"),
            },
            "verdict": _verdict(findings, problem),
            "findings": findings,
            "n_no_match": 0 if audited is None else audited["n_keys"] - len(findings),
            "n_tried": 0 if audited is None else audited["n_hypotheses"],
            "unread": [] if audited is None else audited["layers"]["failed"],
            "problem": problem,
        }

    def _findings(self, raw: Document) -> list[Document]:
        """Matches, the least probable first, then doubts; a reading that does not match is worth no line."""
        judged = [self._judged(hit) for hit in raw["hits"]]
        matches = [finding for finding in judged if finding["verdict"] == Verdict.MATCH]
        known = {finding["key"]["commitment"] for finding in matches}
        doubts = [self._doubt(doubt) for doubt in raw["doubts"] if doubt["key"] not in known]
        return sorted(matches, key=_strength) + sorted(doubts, key=_strength)

    def _judged(self, hit: Document) -> Document:
        read = hit["finding"]
        judgement = judge(_evidence(hit["log10_p"]), self.n_hypotheses, self.policy)
        standing = self.policy.standing(read["key"]["origin"])
        return judged_document(judgement, standing, read) | {"digest": hit["digest"]}

    def _doubt(self, doubt: Document) -> Document:
        key = self.keys.get(doubt["key"])
        if key is None:
            raise ValueError(f"a result speaks of key {doubt['key']}, which is not among the {len(self.keys)} keys")
        judgement = inconclusive(doubt["reason"], self.n_hypotheses)
        finding = judged_document(judgement, self.policy.standing(key["origin"]), unread_document(key))
        return finding | {"digest": None}


def _named(results: Iterable[tuple[Found, Document | None]]) -> Iterator[tuple[Found, Document | None]]:
    """Everything in the order of its name, each name once: two roots may hold models of the same name."""
    pairs = sorted(results, key=lambda pair: (pair[0].identity, pair[0].location))
    names = [found.identity for found, _ in pairs]
    for index, (found, raw) in enumerate(pairs):
        shared = found.identity in (*names[index - 1 : index], *names[index + 1 : index + 2])
        yield replace(found, identity=f"{found.identity} ({public(found.location)})") if shared else found, raw


def _evidence(log10_p: float) -> Evidence:
    """A probability as evidence; the rest of a reading bears on no verdict."""
    return Evidence(np.zeros(1), n_errors=0, n_erasures=0, log10_p=log10_p, tests=())


def _verdict(findings: Sequence[Document], problem: str | None) -> str:
    if problem is not None:
        return str(Verdict.INCONCLUSIVE)
    return str(overall([Verdict(finding["verdict"]) for finding in findings] or [Verdict.NO_MATCH]))


def _strength(finding: Document) -> tuple[float, str]:
    return finding["log10_p_value"], finding["key"]["commitment"]


def _coverage(found: Sequence[Found], entries: Sequence[Document]) -> Document:
    """Everything found, in one of three places."""
    failed = [
        {"name": entry["model"]["identity"], "problem": entry["problem"]}
        for entry in entries
        if entry["problem"] is not None
    ]
    left: dict[tuple[str, str], list[str]] = {}
    for one in found:
        if one.outcome not in (Outcome.MODEL, Outcome.FAILED):
            left.setdefault((str(one.outcome), one.reason or "no reason given"), []).append(one.identity)
    return {
        "found": len(found),
        "audited": len(entries) - len(failed),
        "skipped": [
            {"outcome": outcome, "reason": reason, "count": len(names), "examples": names[:_EXAMPLES]}
            for (outcome, reason), names in sorted(left.items(), key=lambda one: (-len(one[1]), one[0]))
        ],
        "failed": failed,
    }


def _status(entries: Sequence[Document], coverage: Document) -> str:
    if coverage["failed"]:
        return "partial" if coverage["audited"] else "failed"
    return "partial" if any(entry["unread"] for entry in entries) else "complete"


def _summary(entries: Sequence[Document]) -> Document:
    audited = [entry for entry in entries if entry["problem"] is None]
    findings = [finding for entry in audited for finding in entry["findings"]]
    matches = sum(finding["verdict"] == Verdict.MATCH for finding in findings)
    return {
        "models": len(audited),
        "matches": matches,
        "models_matched": sum(entry["verdict"] == Verdict.MATCH for entry in audited),
        "inconclusive": len(findings) - matches,
        "models_unread": sum(bool(entry["unread"]) for entry in audited),
        "models_untried": sum(entry["n_tried"] == 0 for entry in audited),
        "bytes": sum(entry["model"]["bytes"] for entry in audited),
    }


def _caveats(entries: Sequence[Document]) -> list[str]:
    """What the matches do not prove, each once, and what their absence does not."""
    matches = (finding for entry in entries for finding in entry["findings"] if finding["verdict"] == Verdict.MATCH)
    return list(dict.fromkeys([*(caveat for finding in matches for caveat in finding["does_not_prove"]), ABSENCE]))
