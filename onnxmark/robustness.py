"""How far would this mark survive, and what would its removal cost? A matched carrier under attack, verdict by verdict.

Attacks on weights are tried on the carrier alone: no data, no retraining, no rewritten file. Only what goes through the
graph or through a tool, and so may change how the layer reads, is carried out on a file and audited anew; so is every
attack on a mark that lies in no single layer. Each trial is judged exactly as the audit was, with the same correction.
With inputs of the model, what the attack does to the answers stands beside what it does to the mark.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import numpy as np

from onnxmark.attacker import Attacker, is_model_attack, is_storage_attack, is_weight_attack
from onnxmark.attacking import attack_file, relative_change
from onnxmark.attacks import Attack, Means, Recipe, apply_attack
from onnxmark.audit import Candidate, Finding, Oracle, Schemes, audit_file, built_in
from onnxmark.errors import AttackError, CalibrationError, CarrierError, MissingExtra, ModelError
from onnxmark.fidelity import FidelityMeter
from onnxmark.model.running.runtime import Fidelity
from onnxmark.recovery import Past, recovered
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.scheme import Reads, Scheme, WeightScheme
from onnxmark.statistics import mean_interval
from onnxmark.verdict import Judgement, Policy, Verdict, inconclusive, judge
from onnxmark.views import View
from onnxmark.weights import WeightTensor

OracleOf = Callable[[Path], Oracle]
"""From the file of a model to what answers for it."""

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
    weights: tuple[WeightTensor, ...],
    attacks: Sequence[Recipe],
    policy: Policy,
    *,
    attacker: Attacker | None = None,
    meter: FidelityMeter | None = None,
    oracle: OracleOf | None = None,
    seed: int = 0,
    n_draws: int = DRAWS,
    align: bool = True,
    schemes: Schemes = built_in,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Trial, ...]:
    """Try attacks on the carrier of a finding.

    Args:
        finding: A finding with a carrier that was read.
        weights: The weights of its carrier, layer by layer; none where the model was asked.
        attacks: Recipes, in the order of the report.
        policy: The audit's policy.
        attacker: What the attacker has; without it, recipes that need more than the weights say so in their trial.
        meter: Measures what an attack does to the answers.
        oracle: Lets an attacked file be asked, for keys that ask.
        seed: Seeds the random attacks: the same seed gives the same trials.
        n_draws: Repetitions of an attack that is random.
        align: Match channels with what the key remembers, as the audit did.
        schemes: Gives the scheme of a name.
        progress: Told (attacks done, attacks to do).

    Raises:
        ValueError: The finding has no carrier.
    """
    if finding.best is None:
        raise ValueError("the finding has no carrier to attack")
    bench = _Bench(finding, finding.best, weights, policy, attacker, meter, oracle, seed, n_draws, align, schemes)
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
    weights: tuple[WeightTensor, ...]
    policy: Policy
    attacker: Attacker | None
    meter: FidelityMeter | None
    oracle: OracleOf | None
    seed: int
    n_draws: int
    align: bool
    schemes: Schemes

    def trial(self, recipe: Recipe) -> Trial:
        """One attack, however it has to be carried out; what cannot be tried is a trial that says why."""
        try:
            if is_weight_attack(recipe) and self._scheme.reads is Reads.WEIGHTS:
                return self._on_the_carrier(recipe)
            if is_weight_attack(recipe) or is_model_attack(recipe):
                return self._on_a_file(recipe)
        except _UNTRIED as error:
            return self._untried(recipe, str(error))
        return self._untried(recipe, "attacks neither weights nor a file; update the package it comes from")

    @property
    def _scheme(self) -> Scheme:
        return self.schemes(self.finding.key.scheme)

    def _untried(self, recipe: Recipe, problem: str) -> Trial:
        judgement = inconclusive("the attack was not tried", self.finding.judgement.n_hypotheses)
        return Trial(recipe, None, None, (judgement,), problem=problem)

    def _on_the_carrier(self, attack: Attack) -> Trial:
        rates, judgements, changes = [], [], []
        first: tuple[WeightTensor, ...] = ()
        for draw in range(self.n_draws if attack.random else 1):
            attacked = self._attacked(attack, draw)
            first = first or attacked
            evidence = self._read(attacked)
            rates.append(evidence.bit_error_rate)
            judgements.append(self._judged(evidence))
            changes += [relative_change(*pair) for pair in zip(self.weights, attacked, strict=True)]
        known = [change for change in changes if change is not None]
        trial = Trial(
            recipe=attack,
            bit_error_rate=float(np.mean(rates)),
            interval=_interval(rates),
            judgements=tuple(judgements),
            relative_change=float(np.mean(known)) if known else None,
            coded_ratio=attack.sizes(first[0].values).coded_ratio if is_storage_attack(attack) else None,
        )
        return self._measured(trial, first)

    def _read(self, layers: tuple[WeightTensor, ...]) -> Evidence:
        """As an audit does: as the layers are and, where that is no match, with channels put back in their places."""
        key, scheme = self.finding.key, cast("WeightScheme", self._scheme)
        if self.carrier.view is View.ALIGNED:
            return scheme.extract(key, self._ordered(layers), self.carrier.reading)
        evidence = scheme.extract(key, layers, self.carrier.reading)
        if not self.align or self._judged(evidence).verdict is Verdict.MATCH or not self._may_be_ordered(layers):
            return evidence
        ordered = scheme.extract(key, self._ordered(layers), self.carrier.reading)
        return min(evidence, ordered, key=lambda one: one.log10_p)

    def _may_be_ordered(self, layers: tuple[WeightTensor, ...]) -> bool:
        past = Past.of(self.finding.key)
        return past is not None and past.may_be(layers[0].values.shape)

    def _ordered(self, layers: tuple[WeightTensor, ...]) -> tuple[WeightTensor, ...]:
        past = Past.of(self.finding.key)
        assert past is not None
        return (layers[0].with_values(recovered(layers[0].values, past)),)

    def _judged(self, evidence: Evidence) -> Judgement:
        return judge(evidence, self.finding.judgement.n_hypotheses, self.policy)

    def _attacked(self, attack: Attack, draw: int) -> tuple[WeightTensor, ...]:
        rng = np.random.default_rng((self.seed, draw))
        return tuple(apply_attack(attack, layer, self._means(attack, layer, rng)) for layer in self.weights)

    def _means(self, attack: Attack, layer: WeightTensor, rng: np.random.Generator) -> Means:
        return Means(rng) if self.attacker is None else self.attacker.means(attack, layer, rng)

    def _on_a_file(self, attack: Recipe) -> Trial:
        """Write the attacked file and audit it as any suspect: every layer that fits, corrected for all of them."""
        if self.attacker is None:
            raise AttackError(f"attack {attack.name!r} works on a file, and there is none here")
        trial: Trial | None = None
        rates, judgements = [], []
        for draw in range(self.n_draws if attack.random else 1):
            with tempfile.TemporaryDirectory(prefix="onnxmark-") as room:
                target = Path(room) / self.attacker.path.name
                self._write(attack, target, draw)
                found = audit_file(
                    target,
                    [self.finding.key],
                    self.policy,
                    oracle=None if self.oracle is None else self.oracle(target),
                    align=self.align,
                    schemes=self.schemes,
                ).findings[0]
                trial = self._measured_file(Trial(attack, None, None, ()), target) if trial is None else trial
            judgements.append(found.judgement)
            if found.best is not None and found.best.evidence is not None:
                rates.append(found.best.evidence.bit_error_rate)
        assert trial is not None
        rate = float(np.mean(rates)) if rates else None
        return replace(trial, bit_error_rate=rate, interval=_interval(rates), judgements=tuple(judgements))

    def _write(self, attack: Recipe, target: Path, draw: int) -> None:
        assert self.attacker is not None
        if is_model_attack(attack):
            attack.rewrite(
                self.attacker.path, target, self.attacker.file_means(np.random.default_rng((self.seed, draw)))
            )
        else:
            given = self.attacker
            attack_file(
                given.path,
                [attack],
                target,
                seed=self.seed + draw,
                reference=given.reference,
                calibration=given.calibration,
            )

    def _measured_file(self, trial: Trial, target: Path) -> Trial:
        return self._with_fidelity(trial, lambda meter: meter.of_file(target))

    def _measured(self, trial: Trial, attacked: tuple[WeightTensor, ...]) -> Trial:
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
