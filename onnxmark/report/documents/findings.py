"""What a key's reading says and does not prove, as data; of a key the commitment, and never anything secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from onnxmark.keys import AnyKey, Key
from onnxmark.report.documents.attack import recipe_facts
from onnxmark.report.documents.models import fidelity_document, sites_document
from onnxmark.report.documents.plain import finite, probability
from onnxmark.report.formats import Document
from onnxmark.verdict import Judgement, Standing

if TYPE_CHECKING:
    from onnxmark.audit import Candidate, Finding
    from onnxmark.robustness import Trial
    from onnxmark.schemes.evidence import Evidence

_HISTOGRAM_BINS: Final = 24


_READING: Final = (
    *("n_bits", "n_errors", "n_erasures", "bit_error_rate", "symbols", "notes", "inverted", "embedding_loss"),
    *("tests", "margins"),
)
"""What a finding says of a reading; null where nothing was read."""


_CAVEATS: Final = {
    Standing.REGISTERED: (
        "A match shows that the holder of this key, or somebody with access to it, marked this model or an ancestor of "
        "it. The caller vouched that the commitment was time-stamped before the model appeared; nobody checked here."
    ),
    Standing.UNREGISTERED: (
        "Nothing here shows when the key was made. Its seed may have been searched for; the bound for 2^64 seeds is "
        "given. Time-stamp the commitment (sha256 of the key file) to register the key."
    ),
    Standing.FREE_FORM: (
        "The key is a bare matrix. For any model a matrix that reads any message can be made in milliseconds, so a "
        "match is no evidence of ownership; its probability assumes that the matrix was drawn blind to the weights."
    ),
}


ABSENCE: Final = (
    "No match does not show that the model is independent: distillation, permuted or pruned channels and other attacks "
    "destroy the reading of a mark in the weights."
)
"""What a reading that finds nothing leaves open."""


_LIMITS: Final = {
    "answers": (
        "No match does not show that the model is independent: students that are small, or were taught by labels alone "
        "or on other inputs, keep little of a mark in the answers."
    ),
    "widths": (
        "No match does not show that the model is independent: whoever prunes more channels, or trains a network of "
        "other widths, removes a mark in the widths. Widths are no secret either: a match speaks of the architecture."
    ),
}
"""What the reading of other things than weights leaves open, by the kind of reading."""


def finding_document(finding: Finding, trials: Sequence[Trial] = ()) -> Document:
    """One key's answer, as data; trials are those of a sweep."""
    best = finding.best
    read = {
        "key": public_key(finding.key),
        **_reading(best.evidence if best is not None else None),
        "carrier": None if best is None else _carrier(best),
        "candidates": [_candidate(candidate) for candidate in finding.candidates],
        "robustness": [_trial(trial) for trial in trials],
    }
    return judged_document(finding.judgement, finding.standing, read)


def judged_document(judgement: Judgement, standing: Standing, read: Document) -> Document:
    """A verdict around what it rests on.

    Args:
        judgement: The verdict and its figures.
        standing: What a match with the key is worth.
        read: The rest of a finding, as :func:`finding_document` or :func:`unread_document` made it.
    """
    carrier = read["carrier"]
    return {
        "verdict": str(judgement.verdict),
        "reason": judgement.reason,
        "standing": str(standing),
        "clears_seed_search": judgement.clears_seed_search if standing is not Standing.FREE_FORM else None,
        "key": read["key"],
        **{name: read[name] for name in _READING},
        "p_value": probability(judgement.log10_p_value),
        "log10_p_value": judgement.log10_p_value,
        "n_hypotheses": judgement.n_hypotheses,
        "carrier": carrier,
        "candidates": read["candidates"],
        "robustness": read["robustness"],
        "does_not_prove": [_CAVEATS[standing], ABSENCE if carrier is None else _LIMITS.get(carrier["kind"], ABSENCE)],
    }


def unread_document(key: Document) -> Document:
    """What there is to say of a key that read nothing, without the verdict; see :func:`judged_document`."""
    return {"key": key, **_reading(None), "carrier": None, "candidates": [], "robustness": []}


def public_key(key: AnyKey) -> Document:
    """The public side of a key: commitment, scheme, origin, and for a bare matrix the file it came from."""
    source = {"file": key.source} if not isinstance(key, Key) else {}
    return {"commitment": key.commitment, "scheme": key.scheme, "origin": key.origin, **source}


def _reading(evidence: Evidence | None) -> Document:
    if evidence is None:
        return {**dict.fromkeys(_READING), "notes": []}
    return {
        "n_bits": evidence.n_bits,
        "n_errors": evidence.n_bit_errors,
        "n_erasures": evidence.n_erasures,
        "bit_error_rate": evidence.bit_error_rate,
        "symbols": {"name": evidence.symbol, "count": evidence.n_symbols, "n_errors": evidence.n_errors},
        "notes": list(evidence.notes),
        "inverted": evidence.inverted,
        "embedding_loss": evidence.embedding_loss,
        "tests": [{"name": test.name, "log10_p": finite(test.log10_p), "kind": test.kind} for test in evidence.tests],
        "margins": _margins(evidence),
    }


def _margins(evidence: Evidence) -> Document:
    margins = evidence.margins
    limit = max(float(np.max(np.abs(margins))), 1e-12)
    counts, edges = np.histogram(margins, bins=_HISTOGRAM_BINS, range=(-limit, limit))
    return {
        "unit": evidence.unit,
        "min": float(margins.min()),
        "mean": float(margins.mean()),
        "max": float(margins.max()),
        "values": [float(f"{margin:.4g}") for margin in margins],
        "histogram": {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]},
    }


def _carrier(candidate: Candidate) -> Document:
    return {
        **sites_document(candidate.sites),
        "kind": candidate.reading.kind,
        "reading": candidate.reading.label,
        "view": str(candidate.view),
        "why": candidate.why,
    }


def _candidate(candidate: Candidate) -> Document:
    evidence = candidate.evidence
    return {
        "name": candidate.name,
        "reading": candidate.reading.label,
        "view": str(candidate.view),
        "why": candidate.why,
        "bit_error_rate": None if evidence is None else evidence.bit_error_rate,
        "log10_p": None if evidence is None else finite(evidence.log10_p),
        "problem": candidate.problem or (evidence.degenerate if evidence is not None else None),
    }


def _trial(trial: Trial) -> Document:
    return {
        **recipe_facts(trial.recipe),
        "bit_error_rate": trial.bit_error_rate,
        "bit_error_rate_interval": None if trial.interval is None else list(trial.interval),
        "verdict": str(trial.verdict),
        "reason": trial.worst.reason,
        "log10_p_value": trial.worst.log10_p_value,
        "log10_p_values": [judgement.log10_p_value for judgement in trial.judgements],
        "n_draws": trial.n_draws,
        "n_survived": trial.n_survived,
        "relative_change": trial.relative_change,
        "coded_ratio": trial.coded_ratio,
        "fidelity": fidelity_document(trial.fidelity),
        "problem": trial.problem,
    }
