"""Recipes embed with every kind of key, leave alone what they are given, and compare like with like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from onnxmark_torch import Watermark
from onnxmark_torch.data import DataSet, Examples
from onnxmark_torch.networks import ConvNet
from onnxmark_torch.objectives import SoftLabels
from onnxmark_torch.plan import FINE_TUNING, TrainingPlan
from onnxmark_torch.problems import TargetError
from onnxmark_torch.recipes import (
    KEY_KINDS,
    KeyKind,
    distill_to_embed,
    fine_tune_to_embed,
    key_for,
    train_to_embed,
)
from onnxmark_torch.tasks import ImageTask, digits
from onnxmark_torch.training import evaluate, train
from torch import nn

from onnxmark.errors import KeyFileError
from onnxmark.schemes.projection.extraction import read_message
from onnxmark.schemes.projection.projection import own_projection
from onnxmark.weights import Origin, WeightTensor
from tests.adapters.test_training_loop import assert_same, differ, weights

N_BITS = 64
WIDTH = 32
PLAN = TrainingPlan(epochs=3, batch_size=32)
PAYLOAD = np.random.default_rng(0).integers(0, 2, N_BITS).astype(np.uint8)
BY_NAME = {kind.name: kind for kind in KEY_KINDS}


@pytest.fixture(scope="module")
def task() -> ImageTask:
    pytest.importorskip("sklearn")
    return digits()


def network(seed: int = 0) -> ConvNet:
    torch.manual_seed(seed)
    return ConvNet(width=WIDTH)


def mark(kind: str = "full", strength: float = 0.1) -> Watermark:
    return Watermark(key_for(network(), ConvNet.host, BY_NAME[kind], PAYLOAD), strength=strength)


def host(model) -> np.ndarray:
    return model.conv3.weight.detach().numpy().copy()


class TestKeys:
    @pytest.mark.parametrize("kind", KEY_KINDS, ids=lambda kind: kind.name)
    def test_a_key_is_of_its_kind_and_for_its_layer(self, kind):
        key = key_for(network(), "conv3", kind, PAYLOAD)
        assert key.parameters == {"generator": kind.generator, "carrier": kind.carrier}
        assert (key.carrier.shape, key.carrier.name, key.carrier.op) == ((32, 32, 3, 3), "conv3.weight", "Conv")
        np.testing.assert_array_equal(key.payload, PAYLOAD)

    def test_keys_are_fresh(self):
        one, other = (key_for(network(), "conv3", BY_NAME["full"], PAYLOAD) for _ in range(2))
        assert one.seed.reveal() != other.seed.reveal()

    def test_the_three_of_the_paper_have_their_rows(self):
        rows = {}
        for kind in KEY_KINDS:
            rows[kind.name] = own_projection(key_for(network(), "conv3", kind, PAYLOAD), (32, 32, 3, 3)).rows(0, N_BITS)
        assert {rows[name].shape for name in ("direct", "diff", "random")} == {(N_BITS, 288)}
        assert rows["full"].shape == (N_BITS, 9216)
        assert (rows["direct"].sum(axis=1) == 1).all()
        assert (np.abs(rows["direct"]).sum(axis=1) == 1).all()
        assert (rows["diff"].sum(axis=1) == 0).all()
        assert (np.abs(rows["diff"]).sum(axis=1) == 2).all()
        assert rows["random"].std() == pytest.approx(1, abs=0.03)
        assert set(np.unique(rows["full"])) == {-1, 1}

    def test_a_layer_that_is_not_there(self):
        with pytest.raises(
            TargetError, match=r"no linear or convolution layer 'conv9'; there are conv1, conv2, conv3, fc"
        ):
            key_for(network(), "conv9", BY_NAME["full"], PAYLOAD)

    def test_bits_that_do_not_fit(self):
        with pytest.raises(KeyFileError, match="diff key of 145 bits needs 290 entries"):
            key_for(network(), "conv3", KeyKind("diff", "diff", "mean-ihw"), np.zeros(145, dtype=np.uint8))


class TestTrainToEmbed:
    @pytest.mark.parametrize("kind", BY_NAME)
    def test_every_kind_of_key_gets_in(self, task, kind):
        marked = mark(kind, strength=1.0 if kind in ("direct", "diff") else 0.1)
        done = train_to_embed(network(), task, marked, PLAN)
        assert done.report.bit_error_rate == 0
        assert done.history.score > 0.8
        # Read again as an audit would, from the bare weights.
        layer = WeightTensor("conv3.weight", host(done.model), Origin("conv3", "Conv", 2, ""))
        evidence = read_message(own_projection(marked.key, (32, 32, 3, 3)), layer, fair=True)
        assert evidence.n_errors == 0
        assert done.report.embedding_loss == pytest.approx(evidence.embedding_loss, rel=1e-6)

    def test_the_control_has_no_mark_and_no_report(self, task):
        done = train_to_embed(network(), task, None, PLAN)
        assert done.report is None
        assert 0.2 < mark().report(done.model).bit_error_rate < 0.8

    def test_the_given_network_stays_and_the_new_one_is_ready(self, task):
        given, before = network(), network()
        done = train_to_embed(given, task, mark(), PLAN)
        assert_same(weights(given), weights(before))
        assert given.training
        assert not done.model.training
        assert differ(weights(done.model), weights(before))

    def test_marked_and_control_differ_by_the_mark_only(self, task):
        control = train_to_embed(network(), task, None, PLAN)
        without_strength = train_to_embed(network(), task, mark(strength=0.0), PLAN)
        assert_same(weights(control.model), weights(without_strength.model))
        assert control.history == without_strength.history

    def test_it_is_the_loop(self, task):
        done, looped = train_to_embed(network(), task, None, PLAN), network()
        history = train(looped, task, PLAN)
        assert_same(weights(done.model), weights(looped))
        assert done.history == history
        assert done.history.score == evaluate(looped, task)

    def test_checkpoints_and_evaluations_are_passed_on(self, task, tmp_path):
        path = tmp_path / "state"
        done = train_to_embed(network(), task, None, PLAN, checkpoint=path, evaluate_every=1, show=False)
        assert path.is_file()
        assert all(record.score is not None for record in done.history.epochs)
        assert_same(weights(train_to_embed(network(), task, None, PLAN, checkpoint=path).model), weights(done.model))


class TestFineTuneToEmbed:
    def test_a_finished_network_is_marked_and_stays(self, task):
        finished = train_to_embed(network(), task, None, PLAN).model
        before = weights(finished)
        done = fine_tune_to_embed(finished, task, mark(strength=0.01), replace(FINE_TUNING, epochs=3, batch_size=32))
        assert_same(weights(finished), before)
        assert done.report.bit_error_rate == 0
        assert done.history.score >= evaluate(finished, task) - 0.03
        moved = np.linalg.norm(host(done.model) - host(finished)) / np.linalg.norm(host(finished))
        fresh = np.linalg.norm(host(done.model) - host(network(1))) / np.linalg.norm(host(finished))
        assert 0 < moved < 0.5 < fresh

    def test_the_default_plan_is_gentler_than_from_scratch(self):
        assert FINE_TUNING.rate < TrainingPlan().rate
        assert FINE_TUNING.epochs < TrainingPlan().epochs


@pytest.fixture(scope="module")
def teacher(task) -> nn.Module:
    return train_to_embed(network(5), task, None, PLAN).model


class TestDistillToEmbed:
    def test_the_student_learns_from_outputs_alone(self, task, teacher):
        labels = np.random.default_rng(1).permutation(task.training.labels)
        scrambled = Examples(task.training.images, labels, task.training.class_names)
        lied_to = replace(task, data=DataSet(scrambled, task.test))
        told, untold = (
            distill_to_embed(network(), teacher, each, mark_, PLAN) for each, mark_ in ((task, None), (lied_to, None))
        )
        assert_same(weights(told.model), weights(untold.model))
        assert untold.history.score > 0.8

    def test_the_student_is_marked_and_shares_nothing_with_its_teacher(self, task, teacher):
        before, given = weights(teacher), network()
        done = distill_to_embed(given, teacher, task, mark(), PLAN)
        assert done.report.bit_error_rate == 0
        assert_same(weights(teacher), before)
        assert_same(weights(given), weights(network()))
        owned = {tensor.data_ptr() for tensor in done.model.state_dict().values()}
        assert owned.isdisjoint(tensor.data_ptr() for tensor in teacher.state_dict().values())

    def test_a_teacher_in_training_mode_is_read_in_evaluation_mode_and_left_as_it_is(self, task, teacher):
        one = distill_to_embed(network(), teacher, task, None, PLAN)
        teacher.train()
        other = distill_to_embed(network(), teacher, task, None, PLAN)
        assert teacher.training
        teacher.eval()
        assert_same(weights(one.model), weights(other.model))

    def test_temperature_is_that_of_the_objective(self, task, teacher):
        warm, looped = distill_to_embed(network(), teacher, task, None, PLAN, temperature=4.0), network()
        train(looped, task, PLAN, objective=SoftLabels(teacher, 4.0))
        assert_same(weights(warm.model), weights(looped))
        assert differ(weights(warm.model), weights(distill_to_embed(network(), teacher, task, None, PLAN).model))
