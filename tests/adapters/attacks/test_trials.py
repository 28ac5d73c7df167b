"""Attacked networks in the one report: read from exported files, judged as any suspect is, rendered as any audit is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from onnxmark_torch import Watermark
from onnxmark_torch.attacks import FineTuneAll, FineTuneLast, HardDistillation, TrialBench, carry_out
from onnxmark_torch.attacks.trials import export_for
from onnxmark_torch.networks import ConvNet
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import logits_of, train

from onnxmark import audit_file
from onnxmark.attacking import attack_file
from onnxmark.attacks import MagnitudePruning
from onnxmark.errors import AttackError
from onnxmark.keys import commitment_of
from onnxmark.keys.container import encode_key
from onnxmark.report.documents.audit import audit_document
from onnxmark.report.formats import Format
from onnxmark.report.render import render
from onnxmark.report.saved import parse_document
from onnxmark.verdict import Policy, Verdict
from tests.adapters.attacks.subjects import means, task, untrained_net
from tests.adapters.subjects import make_key

UNSAVED = make_key((16, 16, 3, 3), n_bits=64, name="conv3.weight")
KEY = replace(UNSAVED, commitment=commitment_of(encode_key(UNSAVED)))


@pytest.fixture(scope="module")
def marked():
    net = untrained_net()
    train(net, task(), TrainingPlan(8, 32), Watermark(KEY, "conv3", 0.05), show=False)
    return net


@pytest.fixture(scope="module")
def folder(tmp_path_factory, marked):
    """Files of the marked network and of what three attacks, one of them twice, made of it."""
    room = tmp_path_factory.mktemp("trials")
    export_for(task(), marked, room / "marked.onnx")
    for seed in (0, 1):
        export_for(task(), carry_out(FineTuneAll(1), marked, means(seed)), room / f"tuned-{seed}.onnx")
    student = carry_out(HardDistillation(4, other_architecture=True), marked, means())
    export_for(task(), student, room / "student.onnx")
    attack_file(room / "marked.onnx", [MagnitudePruning(0.3)], room / "pruned.onnx")
    return room


@pytest.fixture(scope="module")
def bench(folder):
    return TrialBench.of(folder / "marked.onnx", KEY, task())


def test_the_bench_is_the_audit_of_the_file_and_the_answers_of_the_network(bench, folder, marked):
    expected = audit_file(folder / "marked.onnx", [KEY])
    assert bench.audit.model == expected.model
    assert [one.judgement for one in bench.audit.findings] == [one.judgement for one in expected.findings]
    assert bench.audit.verdict is Verdict.MATCH
    logits = logits_of(marked, task(), task().test).numpy()
    np.testing.assert_allclose(bench.logits, logits, atol=1e-4)
    assert bench.provider.endswith("ExecutionProvider")


def test_the_marked_file_against_itself_has_lost_nothing(bench, folder):
    trial = bench.trial(FineTuneAll(1), [folder / "marked.onnx"])
    assert trial.bit_error_rate == 0
    assert trial.verdict is Verdict.MATCH
    assert trial.relative_change == 0
    assert trial.fidelity.relative_change == 0
    assert trial.fidelity.decisions_changed == 0
    assert trial.fidelity.accuracy_before == trial.fidelity.accuracy_after


def test_a_trial_is_the_audit_of_the_attacked_file(bench, folder):
    trial = bench.trial(FineTuneAll(1), [folder / "tuned-0.onnx"])
    found = audit_file(folder / "tuned-0.onnx", [KEY]).findings[0]
    assert trial.judgements == (found.judgement,)
    assert trial.bit_error_rate == found.best.evidence.bit_error_rate
    assert trial.interval is None
    assert 0 < trial.relative_change < 0.5


def test_fidelity_is_counted_on_the_test_images(bench, folder, marked):
    """Against torch: accuracy before and after, decisions, and the change of the logits."""
    attacked = carry_out(FineTuneAll(1), marked, means(0))
    fidelity = bench.trial(FineTuneAll(1), [folder / "tuned-0.onnx"]).fidelity
    before, after = (logits_of(net, task(), task().test).double() for net in (marked, attacked))
    labels = torch.tensor(task().test.labels)
    assert fidelity.accuracy_before == float((before.argmax(1) == labels).double().mean())
    assert fidelity.accuracy_after == float((after.argmax(1) == labels).double().mean())
    assert fidelity.decisions_changed == int((before.argmax(1) != after.argmax(1)).sum())
    assert fidelity.n_inputs == len(labels)
    assert fidelity.relative_change == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-3)


def test_an_attack_carried_out_twice_has_two_judgements(bench, folder):
    paths = [folder / "tuned-0.onnx", folder / "tuned-1.onnx"]
    both = bench.trial(FineTuneAll(1), paths)
    single = [bench.trial(FineTuneAll(1), [path]) for path in paths]
    assert both.judgements == tuple(one.judgements[0] for one in single)
    assert both.n_draws == 2
    assert both.interval is not None
    assert both.relative_change == pytest.approx(np.mean([one.relative_change for one in single]))
    assert both.fidelity == single[0].fidelity


def test_a_student_of_another_architecture_has_no_mark_and_still_a_fidelity(bench, folder):
    trial = bench.trial(HardDistillation(4, other_architecture=True), [folder / "student.onnx"])
    assert trial.verdict is not Verdict.MATCH
    assert trial.relative_change is None
    assert trial.fidelity.accuracy_after > 0.5


def test_attacks_on_the_file_stand_beside_those_that_train(bench, folder):
    trial = bench.trial(MagnitudePruning(0.3), [folder / "pruned.onnx"])
    assert trial.bit_error_rate < 0.1
    assert trial.relative_change > 0
    right = float(np.mean(bench.logits.argmax(axis=1) == task().test.labels))
    assert trial.fidelity.accuracy_before == right != trial.fidelity.accuracy_after


def test_the_policy_is_the_callers(folder):
    strict = TrialBench.of(folder / "marked.onnx", KEY, task(), Policy(alpha=1e-30))
    assert strict.audit.verdict is Verdict.NO_MATCH
    assert strict.trial(FineTuneAll(1), [folder / "tuned-0.onnx"]).verdict is Verdict.NO_MATCH


def test_no_file_is_no_trial(bench):
    with pytest.raises(ValueError, match="at least one attacked model, found none"):
        bench.trial(FineTuneAll(1), [])


def test_a_model_of_other_classes_is_refused(bench, tmp_path):
    export_for(task(), ConvNet(n_classes=7, width=16), tmp_path / "seven.onnx")
    with pytest.raises(AttackError, match=r"answers in shape \(100, 7\), expected \(100, 10\)"):
        bench.trial(FineTuneAll(1), [tmp_path / "seven.onnx"])


def test_a_number_of_test_images_that_is_no_multiple_of_the_batch_is_asked_whole(bench, folder):
    odd = task().smaller(10, 37)
    found = TrialBench.of(folder / "marked.onnx", KEY, odd)
    np.testing.assert_allclose(found.logits, bench.logits[:37], atol=1e-5)


@pytest.mark.parametrize("form", [Format.JSON, Format.HTML, Format.MD, Format.CSV, Format.RICH])
def test_the_report_renders_like_any_audit(bench, folder, form):
    trials = [
        bench.trial(FineTuneAll(1), [folder / "tuned-0.onnx", folder / "tuned-1.onnx"]),
        bench.trial(HardDistillation(4, other_architecture=True), [folder / "student.onnx"]),
        bench.trial(MagnitudePruning(0.3), [folder / "pruned.onnx"]),
    ]
    document = bench.document(trials, seed=0)
    text = render(parse_document(json.dumps(document).encode(), "trials"), form)
    for trial in trials:
        named = repr(trial.recipe).partition("(")[0] if form is Format.CSV else trial.recipe.label
        assert named in " ".join(text.split())


def test_the_document_is_the_audit_with_trials(bench, folder):
    trial = bench.trial(FineTuneAll(1), [folder / "tuned-0.onnx"])
    document = bench.document([trial], seed=5)
    plain = audit_document(bench.audit)
    assert document["simulation"]["seed"] == 5
    assert document["simulation"]["n_draws"] == 1
    assert [one["recipe"] for one in document["findings"][0]["robustness"]] == [repr(FineTuneAll(1))]
    document["findings"][0]["robustness"] = []
    document["simulation"] = None
    assert document == plain


def test_a_key_that_was_never_saved_is_no_subject_of_a_report(bench):
    with pytest.raises(ValueError, match=r"the key has no commitment, which a report names; save it with save_key\(\)"):
        replace(bench, key=UNSAVED).document([], seed=0)


def test_exporting_leaves_the_network_as_it_is_and_needs_no_mark(tmp_path):
    net = untrained_net()
    net.train()
    export_for(task(), net, tmp_path / "model.onnx")
    assert net.training
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_fine_tuning_the_head_leaves_the_carrier(folder, bench, marked):
    export_for(task(), carry_out(FineTuneLast(1), marked, means()), folder / "head.onnx")
    trial = bench.trial(FineTuneLast(1), [folder / "head.onnx"])
    assert trial.bit_error_rate == 0
    # The filters stay; only the running statistics that the exporter folds into them follow the thief's images.
    assert trial.relative_change < 0.2
