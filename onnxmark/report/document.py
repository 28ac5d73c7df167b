"""The one document every report is rendered from: plain data, versioned, without time stamps.

The same audit gives the same document, byte for byte. It carries a key's commitment and never anything secret.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from onnxmark import __version__
from onnxmark.keys import AnyKey, Key
from onnxmark.report.conversion import conversion_facts
from onnxmark.verdict import Judgement, Standing

if TYPE_CHECKING:
    # Describing a result does not need the code that makes it; an audit should not pay for loading the embedding.
    from onnxmark.attacking import Attacking, Step
    from onnxmark.attacks.entropy_coding import Sizes
    from onnxmark.audit import Audit, Candidate, Finding
    from onnxmark.conversion import Conversion
    from onnxmark.marking import Marking
    from onnxmark.model import Folding, WeightSite
    from onnxmark.model.profile import WeightProfile
    from onnxmark.model.running.runtime import Fidelity
    from onnxmark.robustness import Trial
    from onnxmark.schemes.evidence import Evidence
    from onnxmark.schemes.projection.capacity import Capacity

AUDIT_SCHEMA: Final = "onnxmark/audit/v1"
MARKING_SCHEMA: Final = "onnxmark/marking/v1"
ATTACK_SCHEMA: Final = "onnxmark/attack/v1"
ATTACKS_SCHEMA: Final = "onnxmark/attacks/v1"
SCAN_SCHEMA: Final = "onnxmark/scan/v1"
_HISTOGRAM_BINS: Final = 24
_READING: Final = (
    *("n_bits", "n_errors", "n_erasures", "bit_error_rate", "symbols", "notes", "inverted", "embedding_loss"),
    *("tests", "margins"),
)
"""What a finding says of a reading; null where nothing was read."""

Document = dict[str, Any]

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
        "schema": AUDIT_SCHEMA,
        "tool": {"name": "onnxmark", "version": __version__},
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


def failed_audit_document(path: str, problem: str) -> Document:
    """The document of a model that could not be audited."""
    return {
        "schema": AUDIT_SCHEMA,
        "tool": {"name": "onnxmark", "version": __version__},
        "status": "failed",
        "verdict": "inconclusive",
        "model": {"path": path},
        "problem": problem,
        "findings": [],
    }


def to_json(document: Document) -> str:
    """A document as JSON text, indented, keys in the order they were written, ending in a newline."""
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


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


def folding_document(folding: Folding | None) -> Document | None:
    """Whether batch normalisation is folded, as data; None for layers that are no convolutions."""
    return None if folding is None else {"state": str(folding.state), "evidence": list(folding.evidence)}


def profile_document(profile: WeightProfile) -> Document:
    """What a layer's weights look like, as data."""
    return {name: finite(value) if isinstance(value, float) else value for name, value in asdict(profile).items()}


def capacity_document(capacity: Capacity) -> Document:
    """What a layer offers to a message, as data."""
    return {
        "n_bits": capacity.n_bits,
        "entries": capacity.size,
        "ratio": capacity.load,
        "largest_margin": capacity.largest_margin,
        "margin": capacity.margin,
        "predicted_relative_change": finite(capacity.relative_change),
        "suitability": capacity.suitability,
    }


def marking_document(marking: Marking, output: str) -> Document:
    """What ``embed`` did, as data."""
    return {
        "schema": MARKING_SCHEMA,
        "tool": {"name": "onnxmark", "version": __version__},
        "output": output,
        "key": {"commitment": marking.key.commitment, "scheme": marking.key.scheme},
        "carrier": {**_sites(marking.sites), "kind": marking.kind},
        "metric": marking.metric,
        "margin": {
            "asked": marking.margin_asked,
            "solved": marking.margin_solved,
            "reached": marking.margin_reached,
            "unit": marking.evidence.unit,
        },
        "relative_change": marking.relative_change,
        "std_ratio": marking.std_ratio,
        "n_bits": marking.evidence.n_bits,
        "n_errors": marking.evidence.n_bit_errors,
        "log10_p_value": marking.evidence.log10_p,
        "fidelity": fidelity_document(marking.fidelity),
    }


def _carrier(candidate: Candidate) -> Document:
    return {
        **_sites(candidate.sites),
        "kind": candidate.reading.kind,
        "reading": candidate.reading.label,
        "view": str(candidate.view),
        "why": candidate.why,
    }


def _sites(sites: Sequence[WeightSite]) -> Document:
    """What a key reads: its first layer in full and all of them by name; words alone where it asks the model."""
    if not sites:
        return {**_NO_SITE, "layers": []}
    return {**site_document(sites[0]), "layers": [_layer(site) for site in sites]}


_NO_SITE: Final[Document] = {
    "name": "the model's answers",
    "nodes": [],
    "op": "",
    "position": -1,
    "shape": [],
    "dtype": "",
    "stored": "",
    "problem": None,
}


def _layer(site: WeightSite) -> Document:
    return {"name": site.name, "op": site.op, "shape": list(site.shape)}


def site_document(site: WeightSite) -> Document:
    """A weight site as data."""
    return {
        "name": site.name,
        "nodes": list(site.nodes),
        "op": site.op,
        "position": site.position,
        "shape": list(site.shape),
        "dtype": site.dtype,
        "stored": site.stored,
        "problem": site.problem,
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
    recipe = trial.recipe
    return {
        "attack": recipe.name,
        "parameter": recipe.parameter,
        "label": recipe.label,
        "recipe": repr(recipe),
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


def fidelity_document(fidelity: Fidelity | None) -> Document | None:
    """What became of a model's answers, as data."""
    if fidelity is None:
        return None
    return {**asdict(fidelity), "relative_change": finite(fidelity.relative_change)}


def attack_document(attacking: Attacking) -> Document:
    """What ``attack`` did, as data."""
    sizes = attacking.sizes
    return {
        "schema": ATTACK_SCHEMA,
        "tool": {"name": "onnxmark", "version": __version__},
        "status": "complete",
        "source": str(attacking.source),
        "output": str(attacking.output),
        "bytes": attacking.output.stat().st_size,
        "seed": attacking.seed,
        "anonymous": attacking.anonymous,
        "recipe": [repr(step.recipe) for step in attacking.steps],
        "steps": [_step(step) for step in attacking.steps],
        "coding": None if sizes is None else _coding(sizes),
        "fidelity": fidelity_document(attacking.fidelity),
    }


def attacks_document(attacks: Sequence[Document]) -> Document:
    """The list of attacks, as data."""
    return {
        "schema": ATTACKS_SCHEMA,
        "tool": {"name": "onnxmark", "version": __version__},
        "attacks": list(attacks),
    }


def _coding(sizes: Sizes) -> Document:
    """What the layers take in Deep Compression's storage."""
    return {"dense_bits": sizes.dense_bits, "coded_bits": sizes.coded_bits, "ratio": sizes.coded_ratio}


def _step(step: Step) -> Document:
    recipe = step.recipe
    return {
        "attack": recipe.name,
        "parameter": recipe.parameter,
        "label": recipe.label,
        "recipe": repr(recipe),
        "layers": [
            {
                "name": layer.name,
                "shape": list(layer.shape),
                "relative_change": layer.relative_change,
                "sparsity": layer.sparsity,
                "problem": layer.problem,
            }
            for layer in step.layers
        ],
        "notes": list(step.notes),
    }


def probability(log10_p: float) -> float:
    """A probability from its logarithm; one too small for a double is shown as the smallest double, never as 0."""
    return max(math.pow(10.0, log10_p), 5e-324)


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None
