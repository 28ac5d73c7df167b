"""What an audit found: every reading tried, the one a verdict rests on, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from onnxmark.keys import AnyKey, Key
from onnxmark.model import WeightSite
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.scheme import Reading
from onnxmark.verdict import Judgement, Policy, Standing, Verdict, inconclusive, judge, overall
from onnxmark.views import View


@dataclass(frozen=True, slots=True)
class Candidate:
    """One reading of one view of the model with one key.

    Args:
        sites: The layers read, in the order of the key's carriers; none where the model was asked instead.
        view: How they were looked at.
        reading: How they were read.
        why: Why they are a candidate, best reason first.
        evidence: What was read; None where they cannot be read.
        problem: Why they cannot be read.
    """

    sites: tuple[WeightSite, ...]
    view: View
    reading: Reading
    why: str
    evidence: Evidence | None = None
    problem: str | None = None

    @property
    def name(self) -> str:
        """The layer's name; for several the first and how many more; for none what was asked."""
        if not self.sites:
            return "the model's answers"
        more = len(self.sites) - 1
        return self.sites[0].name + (f" and {more} more" if more else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer for one key.

    Args:
        key: The key.
        standing: What a match with it is worth.
        judgement: The verdict and its figures.
        best: The candidate the verdict rests on; None where there was none.
        candidates: Every candidate, in the order in which the key would expect its carrier.
    """

    key: AnyKey
    standing: Standing
    judgement: Judgement
    best: Candidate | None
    candidates: tuple[Candidate, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.judgement.verdict


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What identifies the model audited."""

    path: str
    size: int
    producer: str
    opset: int | None
    n_layers: int
    unknown: tuple[WeightSite, ...]
    """Layers whose shape cannot be told, so that no key can be tried on them."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Findings of several keys in one model."""

    model: ModelFacts
    policy: Policy
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """A match anywhere, else a doubt anywhere, else no match."""
        return overall([finding.verdict for finding in self.findings])


def conclude(
    key: AnyKey,
    candidates: tuple[Candidate, ...],
    unknown: tuple[WeightSite, ...],
    n_hypotheses: int,
    policy: Policy,
) -> Finding:
    """The answer for one key.

    Args:
        key: The key.
        candidates: What was read.
        unknown: Layers of unknown shape, which might have been candidates too.
        n_hypotheses: Everything tried in the audit.
        policy: What is asked of a reading.
    """
    standing = policy.standing(key.origin)
    if not candidates:
        reason = f"no layer fits the key (made for {wanted(key)}); 'onnxmark inspect' lists the layers"
        return Finding(key, standing, inconclusive(reason, n_hypotheses), None, ())
    judged = [
        (candidate, judge(candidate.evidence, n_hypotheses, policy))
        for candidate in candidates
        if candidate.evidence is not None
    ]
    conclusive = [pair for pair in judged if pair[1].verdict is not Verdict.INCONCLUSIVE]
    doubts = [candidate.problem for candidate in candidates if candidate.problem is not None]
    doubts += [judgement.reason for _, judgement in judged if judgement.reason is not None]
    doubts += [f"{site.name!r}: {site.problem}" for site in unknown]
    if not conclusive:
        return Finding(key, standing, inconclusive(str(doubts[0]), n_hypotheses), candidates[0], candidates)
    matches = [pair for pair in conclusive if pair[1].verdict is Verdict.MATCH]
    if matches:
        best, judgement = min(matches, key=lambda pair: pair[1].log10_p_value)
        return Finding(key, standing, judgement, best, candidates)
    # Without a match, show the layer the key expects, not whichever came nearest by chance.
    best, judgement = conclusive[0]
    if all(candidate.reading.resized or candidate.view is View.ALIGNED for candidate, _ in conclusive):
        # Layers of other sizes are tried for the sake of enlarged and pruned ones; that they do not match says little.
        judgement = inconclusive("no layer has the key's shape, and those of other sizes do not match", n_hypotheses)
    elif doubts:
        # A layer that cannot be read may be the very carrier: "no match" would claim too much.
        judgement = inconclusive(f"a layer that may be the carrier cannot be read: {doubts[0]}", n_hypotheses)
    return Finding(key, standing, judgement, best, candidates)


def wanted(key: AnyKey) -> str:
    """What a key was made for, in words."""
    shapes = [carrier.shape for carrier in key.carriers] if isinstance(key, Key) else [key.matrix.shape]
    return ", ".join("x".join(map(str, shape)) for shape in shapes[:4]) + (", …" if len(shapes) > 4 else "")
