"""The only thresholds: from evidence and the number of hypotheses tried to a verdict, and what the verdict is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from onnxmark.schemes.evidence import Evidence
from onnxmark.statistics import LOG10_2, log10_union

DEFAULT_ALPHA: Final = 1e-6
SEED_SEARCH_BITS: Final = 64
"""A forger is granted 2^64 seeds: each seed tried is one more draw from the null."""


class Verdict(StrEnum):
    """What an audit concludes about one key and one model."""

    MATCH = "match"
    NO_MATCH = "no-match"
    INCONCLUSIVE = "inconclusive"


class Standing(StrEnum):
    """What a match is worth, which depends on where the key comes from."""

    REGISTERED = "registered"
    """Seeded, and its commitment was time-stamped before the suspect appeared (the caller vouches for that)."""
    UNREGISTERED = "unregistered"
    """Seeded, but its seed may have been searched for: 2^-64 more is asked before it is evidence of ownership."""
    FREE_FORM = "free-form"
    """A bare matrix, which can be fitted to any weights: never evidence of ownership."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of a reading.

    Args:
        alpha: False-positive rate of the whole audit, after correction, in (0, 1).
        registered: The caller vouches that the keys' commitments are older than the suspect.
    """

    alpha: float = DEFAULT_ALPHA
    registered: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, not {self.alpha}")

    @property
    def log10_alpha(self) -> float:
        """What a corrected probability must not exceed for a match, base 10."""
        return math.log10(self.alpha)

    @property
    def log10_seed_search(self) -> float:
        """The same where a forger may have tried 2^64 seeds."""
        return self.log10_alpha - SEED_SEARCH_BITS * LOG10_2

    def standing(self, key_origin: str) -> Standing:
        """The standing of a key by its origin (``seed`` or ``matrix``)."""
        if key_origin != "seed":
            return Standing.FREE_FORM
        return Standing.REGISTERED if self.registered else Standing.UNREGISTERED


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the figures it rests on.

    Args:
        verdict: The verdict.
        log10_p_value: Probability of such a reading by chance after correction, base 10, at most 0.
        n_hypotheses: What the correction multiplied by.
        reason: Why inconclusive, in words; None otherwise.
        clears_seed_search: Whether the probability stays below alpha when a forger may try 2^64 seeds.
    """

    verdict: Verdict
    log10_p_value: float
    n_hypotheses: int
    reason: str | None
    clears_seed_search: bool


def judge(evidence: Evidence, n_hypotheses: int, policy: Policy) -> Judgement:
    """The verdict on one piece of evidence.

    Args:
        evidence: The best reading of a key in a model.
        n_hypotheses: Every reading tried, of every key, times the signs tested.
        policy: What is asked.
    """
    if evidence.degenerate is not None:
        return Judgement(Verdict.INCONCLUSIVE, 0.0, n_hypotheses, evidence.degenerate, clears_seed_search=False)
    log10_p = log10_union(evidence.log10_p, n_hypotheses)
    return Judgement(
        verdict=Verdict.MATCH if log10_p <= policy.log10_alpha else Verdict.NO_MATCH,
        log10_p_value=log10_p,
        n_hypotheses=n_hypotheses,
        reason=None,
        clears_seed_search=log10_p <= policy.log10_seed_search,
    )


def inconclusive(reason: str, n_hypotheses: int = 0) -> Judgement:
    """The judgement where there is nothing to judge."""
    return Judgement(Verdict.INCONCLUSIVE, 0.0, n_hypotheses, reason, clears_seed_search=False)


def overall(verdicts: list[Verdict]) -> Verdict:
    """One verdict for several findings: a match anywhere, else a doubt anywhere, else no match."""
    for verdict in (Verdict.MATCH, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return Verdict.NO_MATCH if verdicts else Verdict.INCONCLUSIVE
