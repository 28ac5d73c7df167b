"""Trials: each judged as the audit was, told with their spread, and with what the attack costs the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

import onnxmark
from onnxmark.attacker import Attacker
from onnxmark.attacks import (
    QUICK,
    GaussianNoise,
    MagnitudePruning,
    Means,
    Need,
    NullSpaceNoise,
    RandomPruning,
    Soup,
    apply_attack,
)
from onnxmark.audit import audit_file, audit_model, seen_weights
from onnxmark.errors import AttackError
from onnxmark.fidelity import FidelityMeter
from onnxmark.keys import load_key
from onnxmark.model import open_model, write_model
from onnxmark.model.running.calibration import load_calibration
from onnxmark.model.running.runtime import fidelity
from onnxmark.robustness import sweep
from onnxmark.verdict import Policy, Verdict

DEMO = Path(onnxmark.__file__).parent / "demo_data"
MARKED, INPUTS = DEMO / "marked.onnx", DEMO / "calibration.npz"
POLICY = Policy()


@pytest.fixture(scope="module")
def key():
    return load_key(DEMO / "key.npy")


@pytest.fixture(scope="module")
def found(key):
    """The finding in the demo network, and its carrier."""
    with open_model(MARKED) as model:
        finding = audit_model(model, [key], POLICY).findings[0]
        return finding, seen_weights(model, finding)


def trials(found, recipes, **options):
    return sweep(*found, recipes, POLICY, **options)


@pytest.mark.parametrize("recipe", [MagnitudePruning(0.9), MagnitudePruning(0.99), GaussianNoise(2.0)])
def test_a_trial_says_what_an_audit_of_the_attacked_file_says(found, key, recipe, tmp_path):
    (trial,) = trials(found, [recipe], seed=4, n_draws=1)
    attacked = apply_attack(recipe, found[1][0], Means(np.random.default_rng((4, 0))))
    write_model(MARKED, {attacked.name: attacked.values}, tmp_path / "attacked.onnx")
    finding = audit_file(tmp_path / "attacked.onnx", [key], POLICY).findings[0]
    assert trial.verdict is finding.verdict
    assert trial.bit_error_rate == finding.best.evidence.bit_error_rate
    # The file has one view less where the key's norms are restored; the correction is the finding's, as promised.
    assert trial.worst.log10_p_value == pytest.approx(finding.judgement.log10_p_value, abs=1e-6)
    assert trial.relative_change == pytest.approx(
        np.linalg.norm(attacked.values - found[1][0].values) / np.linalg.norm(found[1][0].values), rel=1e-5
    )


def test_random_attacks_are_drawn_and_their_spread_is_told(found):
    recipe = RandomPruning(0.95)
    (trial,) = trials(found, [recipe], n_draws=8)
    one_by_one = [
        trials(found, [_Fixed(0.95, draw)])[0].bit_error_rate  # each draw is that of its own generator
        for draw in range(8)
    ]
    assert trial.n_draws == len(trial.judgements) == 8
    assert trial.bit_error_rate == pytest.approx(np.mean(one_by_one))
    expected = stats.ttest_1samp(one_by_one, 0.0).confidence_interval(0.95)
    assert trial.interval == pytest.approx(tuple(expected))
    assert trial.worst.log10_p_value == max(judgement.log10_p_value for judgement in trial.judgements)


@dataclass(frozen=True)
class _Fixed:
    """Random pruning with the generator of one draw."""

    fraction: float
    draw: int = 0
    name: ClassVar[str] = "fixed"
    random: ClassVar[bool] = False
    keeps_shape: ClassVar[bool] = True
    needs: ClassVar[tuple[Need, ...]] = ()
    parameter: ClassVar[float] = 0.0
    label: ClassVar[str] = "fixed"

    def change(self, values, means):
        return RandomPruning(self.fraction).change(values, Means(np.random.default_rng((0, self.draw))))


def test_an_attack_without_randomness_is_tried_once_and_has_no_interval(found):
    (trial,) = trials(found, [MagnitudePruning(0.5)], n_draws=20)
    assert (trial.n_draws, trial.interval) == (1, None)


def test_a_mark_survives_only_if_it_survives_every_draw(found):
    (trial,) = trials(found, [GaussianNoise(5.0)], n_draws=12)
    assert 0 < trial.n_survived < trial.n_draws
    assert trial.verdict is Verdict.NO_MATCH


def test_what_an_attack_lacks_is_said_in_its_trial_and_the_others_go_on(found):
    soup, noise, pruning = trials(found, [Soup(0.5), NullSpaceNoise(1.0), MagnitudePruning(0.5)])
    for trial in (soup, noise):
        assert trial.bit_error_rate is None
        assert trial.verdict is Verdict.INCONCLUSIVE
    assert "needs the model before it was marked" in soup.problem
    assert "needs inputs of the model" in noise.problem
    assert pruning.verdict is Verdict.MATCH


def test_with_its_means_every_attack_is_tried(found):
    attacker = Attacker(MARKED, DEMO / "unmarked.onnx", INPUTS)
    soup, noise = trials(found, [Soup(1.0), NullSpaceNoise(1.0)], attacker=attacker)
    # All of the reference and nothing of the marked network: the twin without the mark.
    assert soup.verdict is Verdict.NO_MATCH
    assert noise.problem is None
    assert noise.verdict is Verdict.MATCH


def test_progress_is_told(found):
    told = []
    trials(found, QUICK[:3], progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_finding_without_a_carrier_cannot_be_attacked(found, key):
    from dataclasses import replace

    with pytest.raises(ValueError, match="no carrier to attack"):
        sweep(replace(found[0], best=None), found[1], QUICK, POLICY)


@dataclass(frozen=True)
class Halving:
    """An attack on the file: the carrier's weights are halved, or the file is broken."""

    breaks: bool = False
    name: ClassVar[str] = "halving"
    summary: ClassVar[str] = "halve; nothing"
    random: ClassVar[bool] = True
    needs: ClassVar[tuple[Need, ...]] = ()
    parameter: ClassVar[float] = 0.0
    label: ClassVar[str] = "halving"

    def rewrite(self, source, output, means):
        if self.breaks:
            raise AttackError("the tool gave up")
        with open_model(source) as model:
            values = {name: (tensor.values / 2).astype(np.float32) for name, tensor in model.weights().items()}
        write_model(source, values, output)
        return ()


def test_attacks_on_the_file_are_audited_anew_and_measured_once(found):
    attacker = Attacker(MARKED, calibration=INPUTS)
    meter = FidelityMeter(attacker, load_calibration(INPUTS), (found[1][0].name,))
    (trial,) = trials(found, [Halving()], attacker=attacker, meter=meter, n_draws=3)
    assert trial.verdict is Verdict.MATCH
    assert trial.bit_error_rate == 0
    assert trial.n_draws == 3
    assert trial.fidelity.relative_change > 0.1


def test_attacks_on_the_file_need_one(found):
    (trial,) = trials(found, [Halving()])
    assert "works on a file" in trial.problem
    (trial,) = trials(found, [Halving(breaks=True)], attacker=Attacker(MARKED))
    assert trial.problem == "the tool gave up"


class TestFidelity:
    """What an attack does to the answers, measured without rewriting the file."""

    @pytest.mark.parametrize("model", ["marked", "attacked"])
    @pytest.mark.parametrize("spread", [False, True])
    def test_agrees_with_the_rewritten_file(self, model, spread, tmp_path):
        path = DEMO / f"{model}.onnx"
        attacker, inputs, recipe = Attacker(path), load_calibration(INPUTS), MagnitudePruning(0.7)
        with open_model(path) as opened:
            carrier = opened.read(opened.sites()[2])
            values = {
                name: apply_attack(recipe, tensor, Means(np.random.default_rng())).values
                for name, tensor in opened.weights().items()
                if spread or name == carrier.name
            }
        measured = FidelityMeter(attacker, inputs, (carrier.name,), spread=spread).of_weights(
            recipe, (carrier.with_values(values[carrier.name]),)
        )
        write_model(path, values, tmp_path / "attacked.onnx")
        expected = fidelity(path, tmp_path / "attacked.onnx", inputs)
        # The quantised file rounds what is written to it, the probe does not; fused kernels differ in the last bits.
        assert measured.relative_change == pytest.approx(expected.relative_change, rel=0.02)
        assert abs(measured.decisions_changed - expected.decisions_changed) <= 2
        assert measured.accuracy_before == expected.accuracy_before

    def test_no_change_changes_nothing(self, found):
        meter = FidelityMeter(Attacker(MARKED), load_calibration(INPUTS), (found[1][0].name,))
        unchanged = meter.of_weights(MagnitudePruning(0.0), found[1])
        assert unchanged.relative_change < 1e-5
        assert unchanged.decisions_changed == 0

    def test_stands_beside_the_verdict(self, found):
        meter = FidelityMeter(Attacker(MARKED), load_calibration(INPUTS), (found[1][0].name,))
        mild, ruin = trials(found, [MagnitudePruning(0.3), MagnitudePruning(0.99)], meter=meter)
        assert (mild.verdict, ruin.verdict) == (Verdict.MATCH, Verdict.NO_MATCH)
        assert mild.fidelity.accuracy_after > 0.85
        assert ruin.fidelity.accuracy_after < 0.2

    def test_inputs_that_do_not_fit_are_a_problem_of_the_measurement_only(self, found, tmp_path):
        np.savez(tmp_path / "wrong.npz", images=np.zeros((4, 3, 28, 28), np.float32))
        attacker = Attacker(MARKED, calibration=tmp_path / "wrong.npz")
        meter = FidelityMeter(attacker, attacker.inputs(), (found[1][0].name,))
        (trial,) = trials(found, [MagnitudePruning(0.3)], meter=meter, attacker=attacker)
        assert trial.verdict is Verdict.MATCH
        assert trial.fidelity is None
        assert "its effect on the answers was not measured" in trial.problem
