"""The document of an audit: the same audit gives the same one, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnxmark.report.documents.conversion import conversion_facts
from onnxmark.report.documents.findings import finding_document
from onnxmark.report.documents.plain import head
from onnxmark.report.formats import Document, Kind

if TYPE_CHECKING:
    from onnxmark.audit import Audit
    from onnxmark.conversion import Conversion
    from onnxmark.robustness import Trial


def audit_document(
    audit: Audit,
    robustness: Mapping[int, Sequence[Trial]] | None = None,
    *,
    simulation: Document | None = None,
    sha256: str | None = None,
    conversion: Conversion | None = None,
) -> Document:
    """The document of an audit.

    Args:
        audit: The audit.
        robustness: Trials by index of the finding.
        simulation: How the attacks were simulated; see :func:`simulation_document`.
        sha256: Digest of the model file, where it was asked for.
        conversion: How the file audited was made from the model; None where it is the model.
    """
    coverage = _coverage(audit)
    return {
        **head(Kind.AUDIT),
        "status": "partial" if coverage["failed"] else "complete",
        "verdict": str(audit.verdict),
        "model": {
            "path": audit.model.path if conversion is None else str(conversion.source),
            "bytes": audit.model.size,
            "producer": audit.model.producer,
            "opset": audit.model.opset,
            "sha256": sha256,
            "conversion": None if conversion is None else conversion_facts(conversion),
        },
        "coverage": coverage,
        "policy": {
            "alpha": audit.policy.alpha,
            "correction": "bonferroni",
            "log10_alpha": audit.policy.log10_alpha,
            "log10_seed_search": audit.policy.log10_seed_search,
            "registered": audit.policy.registered,
        },
        "simulation": simulation,
        "findings": [
            finding_document(finding, (robustness or {}).get(index, ())) for index, finding in enumerate(audit.findings)
        ],
    }


def failed_audit_document(path: str, problem: str) -> Document:
    """The document of a model that could not be audited."""
    return {
        **head(Kind.AUDIT),
        "status": "failed",
        "verdict": "inconclusive",
        "model": {"path": path},
        "problem": problem,
        "findings": [],
    }


def simulation_document(
    attacks: str, seed: int, n_draws: int, *, spread: bool, skipped: Sequence[tuple[str, str]] = ()
) -> Document:
    """How attacks were simulated, as data.

    Args:
        attacks: Which were asked for.
        seed: Seed of the random ones.
        n_draws: Repetitions of a random one.
        spread: Whether the answers were measured with every layer attacked alike, not the carrier alone.
        skipped: Names of attacks that were left out, and why.
    """
    return {
        "attacks": attacks,
        "seed": seed,
        "n_draws": n_draws,
        "spread": spread,
        "skipped": [{"attack": name, "reason": reason} for name, reason in skipped],
    }


def _coverage(audit: Audit) -> Document:
    """Layers found, audited, skipped because no key fits them, and failed."""
    outcome = {
        site.name: candidate.problem
        for finding in audit.findings
        for candidate in finding.candidates
        for site in candidate.sites
    }
    outcome |= {site.name: site.problem for site in audit.model.unknown}
    failed = {name: problem for name, problem in outcome.items() if problem is not None}
    return {
        "found": audit.model.n_layers,
        "audited": len(outcome) - len(failed),
        "skipped": audit.model.n_layers - len(outcome),
        "failed": [{"name": name, "problem": problem} for name, problem in failed.items()],
    }
