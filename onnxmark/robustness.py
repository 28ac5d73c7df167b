"""How far would this mark survive? A matched carrier under simulated compression, verdict by verdict.

The attacks work on the host weights alone: no data, no retraining, no rewritten file. Each trial is judged exactly as
the audit was, with the same correction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from onnxmark.attacks import Attack, Means, apply_attack
from onnxmark.audit import Candidate, Finding, Schemes, projection_only
from onnxmark.verdict import Judgement, Policy, Verdict, judge
from onnxmark.weights import WeightTensor

DRAWS: Final = 5
"""Repetitions of an attack that is random."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A mark after one attack.

    Args:
        attack: The recipe.
        bit_error_rate: Mean over the draws.
        worst: The judgement of the draw with the largest p-value: the mark survives if it survives every draw.
        n_survived: Draws whose verdict is a match.
        n_draws: 1 for an attack without randomness.
    """

    attack: Attack
    bit_error_rate: float
    worst: Judgement
    n_survived: int
    n_draws: int

    @property
    def verdict(self) -> Verdict:
        """Verdict of the worst draw."""
        return self.worst.verdict


def sweep(
    finding: Finding,
    weights: WeightTensor,
    attacks: Sequence[Attack],
    policy: Policy,
    *,
    seed: int = 0,
    schemes: Schemes = projection_only,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Trial, ...]:
    """Try attacks on the carrier of a finding.

    Args:
        finding: A finding with a carrier that was read.
        weights: The carrier's weights.
        attacks: Recipes, in the order of the report.
        policy: The audit's policy.
        seed: Seeds the random attacks: the same seed gives the same trials.
        schemes: Gives the scheme of a name.
        progress: Told (attacks done, attacks to do).
    """
    if finding.best is None:
        raise ValueError("the finding has no carrier to attack")
    trials = []
    for count, attack in enumerate(attacks):
        if progress is not None:
            progress(count, len(attacks))
        trials.append(_trial(finding, finding.best, weights, attack, policy, seed, schemes))
    if progress is not None:
        progress(len(attacks), len(attacks))
    return tuple(trials)


def _trial(
    finding: Finding,
    carrier: Candidate,
    weights: WeightTensor,
    attack: Attack,
    policy: Policy,
    seed: int,
    schemes: Schemes,
) -> Trial:
    scheme = schemes(finding.key.scheme)
    n_draws = DRAWS if attack.random else 1
    rates, judgements = [], []
    for draw in range(n_draws):
        attacked = apply_attack(attack, weights, Means(np.random.default_rng((seed, draw))))
        evidence = scheme.extract(finding.key, attacked, carrier.reading)
        rates.append(evidence.bit_error_rate)
        judgements.append(judge(evidence, finding.judgement.n_hypotheses, policy))
    return Trial(
        attack=attack,
        bit_error_rate=float(np.mean(rates)),
        worst=max(judgements, key=lambda judgement: (judgement.verdict is not Verdict.MATCH, judgement.log10_p_value)),
        n_survived=sum(judgement.verdict is Verdict.MATCH for judgement in judgements),
        n_draws=n_draws,
    )
