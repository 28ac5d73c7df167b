"""How far would this mark survive, and what would its removal cost? A matched carrier under attack, verdict by verdict.

Attacks on weights are tried on the carrier alone: no data, no retraining, no rewritten file. Only what goes through the
graph or through a tool, and so may change how the layer reads, is carried out on a file and audited anew. Each trial is
judged exactly as the audit was, with the same correction. With inputs of the model, what the attack does to the answers
stands beside what it does to the mark.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from onnxmark.attacker import Attacker, is_model_attack, is_storage_attack, is_weight_attack
from onnxmark.attacking import relative_change
from onnxmark.attacks import Attack, Means, ModelAttack, Recipe, apply_attack
from onnxmark.audit import Candidate, Finding, Schemes, audit_file, projection_only
from onnxmark.errors import AttackError, CalibrationError, CarrierError, MissingExtra, ModelError
from onnxmark.fidelity import FidelityMeter
from onnxmark.model.running.runtime import Fidelity
from onnxmark.statistics import mean_interval
from onnxmark.verdict import Judgement, Policy, Verdict, inconclusive, judge
from onnxmark.weights import WeightTensor

DRAWS: Final = 5
"""Repetitions of an attack that is random."""

_UNTRIED: Final = (AttackError, CarrierError, CalibrationError, MissingExtra, ModelError)
"""What makes one trial impossible and leaves the others possible."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A mark after one attack.

    Args:
        recipe: The attack.
        bit_error_rate: Mean over the draws; None where the attack could not be tried.
        interval: 95 % confidence interval of that mean, None for a single draw.
        judgements: One a draw, the first draw first.
        relative_change: Norm of the carrier's change over its norm, mean over the draws; None where there is none.
        coded_ratio: How many times smaller than float32 the carrier is stored; of the first draw, if the attack codes.
        fidelity: What became of the model's answers after the first draw; None where that was not measured.
        problem: Why the attack could not be tried, or its effect on the answers not be measured.
    """

    recipe: Recipe
    bit_error_rate: float | None
    interval: tuple[float, float] | None
    judgements: tuple[Judgement, ...]
    relative_change: float | None = None
    coded_ratio: float | None = None
    fidelity: Fidelity | None = None
    problem: str | None = None

    @property
    def worst(self) -> Judgement:
        """The judgement of the draw with the largest p-value: the mark survives if it survives every draw."""
        return max(self.judgements, key=lambda one: (one.verdict is not Verdict.MATCH, one.log10_p_value))

    @property
    def verdict(self) -> Verdict:
        """Verdict of the worst draw."""
        return self.worst.verdict

    @property
    def n_draws(self) -> int:
        """1 for an attack without randomness."""
        return len(self.judgements)

    @property
    def n_survived(self) -> int:
        """Draws whose verdict is a match."""
        return sum(judgement.verdict is Verdict.MATCH for judgement in self.judgements)


def sweep(
    finding: Finding,
    weights: WeightTensor,
    attacks: Sequence[Recipe],
    policy: Policy,
    *,
    attacker: Attacker | None = None,
    meter: FidelityMeter | None = None,
    seed: int = 0,
    n_draws: int = DRAWS,
    schemes: Schemes = projection_only,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Trial, ...]:
    """Try attacks on the carrier of a finding.

    Args:
        finding: A finding with a carrier that was read.
        weights: The carrier's weights.
        attacks: Recipes, in the order of the report.
        policy: The audit's policy.
        attacker: What the attacker has; without it, recipes that need more than the weights say so in their trial.
        meter: Measures what an attack does to the answers.
        seed: Seeds the random attacks: the same seed gives the same trials.
        n_draws: Repetitions of an attack that is random.
        schemes: Gives the scheme of a name.
        progress: Told (attacks done, attacks to do).

    Raises:
        ValueError: The finding has no carrier.
    """
    if finding.best is None:
        raise ValueError("the finding has no carrier to attack")
    bench = _Bench(finding, finding.best, weights, policy, attacker, meter, seed, n_draws, schemes)
    trials = []
    for count, recipe in enumerate(attacks):
        if progress is not None:
            progress(count, len(attacks))
        trials.append(bench.trial(recipe))
    if progress is not None:
        progress(len(attacks), len(attacks))
    return tuple(trials)


@dataclass(frozen=True, slots=True, eq=False)
class _Bench:
    """One carrier and everything its trials share."""

    finding: Finding
    carrier: Candidate
    weights: WeightTensor
    policy: Policy
    attacker: Attacker | None
    meter: FidelityMeter | None
    seed: int
    n_draws: int
    schemes: Schemes

    def trial(self, recipe: Recipe) -> Trial:
        """One attack, however it has to be carried out; what cannot be tried is a trial that says why."""
        try:
            if is_weight_attack(recipe):
                return self._on_the_carrier(recipe)
            if is_model_attack(recipe):
                return self._on_a_file(recipe)
        except _UNTRIED as error:
            return self._untried(recipe, str(error))
        return self._untried(recipe, "attacks neither weights nor a file; update the package it comes from")

    def _untried(self, recipe: Recipe, problem: str) -> Trial:
        judgement = inconclusive("the attack was not tried", self.finding.judgement.n_hypotheses)
        return Trial(recipe, None, None, (judgement,), problem=problem)

    def _on_the_carrier(self, attack: Attack) -> Trial:
        scheme = self.schemes(self.finding.key.scheme)
        rates, judgements, changes = [], [], []
        first: WeightTensor | None = None
        for draw in range(self.n_draws if attack.random else 1):
            attacked = apply_attack(attack, self.weights, self._means(attack, draw))
            first = attacked if first is None else first
            evidence = scheme.extract(self.finding.key, attacked, self.carrier.reading)
            rates.append(evidence.bit_error_rate)
            judgements.append(judge(evidence, self.finding.judgement.n_hypotheses, self.policy))
            changes.append(relative_change(self.weights, attacked))
        known = [change for change in changes if change is not None]
        trial = Trial(
            recipe=attack,
            bit_error_rate=float(np.mean(rates)),
            interval=_interval(rates),
            judgements=tuple(judgements),
            relative_change=float(np.mean(known)) if known else None,
            coded_ratio=attack.sizes(first.values).coded_ratio if is_storage_attack(attack) and first else None,
        )
        assert first is not None
        return self._measured(trial, first)

    def _means(self, attack: Attack, draw: int) -> Means:
        rng = np.random.default_rng((self.seed, draw))
        return Means(rng) if self.attacker is None else self.attacker.means(attack, self.weights, rng)

    def _on_a_file(self, attack: ModelAttack) -> Trial:
        """Write the attacked file and audit it as any suspect: every layer that fits, corrected for all of them."""
        if self.attacker is None:
            raise AttackError(f"attack {attack.name!r} works on a file, and there is none here")
        trial: Trial | None = None
        rates, judgements = [], []
        for draw in range(self.n_draws if attack.random else 1):
            with tempfile.TemporaryDirectory(prefix="onnxmark-") as room:
                target = Path(room) / self.attacker.path.name
                means = self.attacker.file_means(np.random.default_rng((self.seed, draw)))
                attack.rewrite(self.attacker.path, target, means)
                found = audit_file(target, [self.finding.key], self.policy, schemes=self.schemes).findings[0]
                trial = self._measured_file(Trial(attack, None, None, ()), target) if trial is None else trial
            judgements.append(found.judgement)
            if found.best is not None and found.best.evidence is not None:
                rates.append(found.best.evidence.bit_error_rate)
        assert trial is not None
        rate = float(np.mean(rates)) if rates else None
        return replace(trial, bit_error_rate=rate, interval=_interval(rates), judgements=tuple(judgements))

    def _measured_file(self, trial: Trial, target: Path) -> Trial:
        return self._with_fidelity(trial, lambda meter: meter.of_file(target))

    def _measured(self, trial: Trial, attacked: WeightTensor) -> Trial:
        return self._with_fidelity(trial, lambda meter: meter.of_weights(trial.recipe, attacked))

    def _with_fidelity(self, trial: Trial, measure: Callable[[FidelityMeter], Fidelity]) -> Trial:
        if self.meter is None:
            return trial
        try:
            return replace(trial, fidelity=measure(self.meter))
        except _UNTRIED as error:
            return replace(trial, problem=f"its effect on the answers was not measured: {error}")


def _interval(rates: Sequence[float]) -> tuple[float, float] | None:
    if len(rates) < 2:
        return None
    low, high = mean_interval(np.array(rates))
    return max(0.0, low), min(1.0, high)
