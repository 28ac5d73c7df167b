"""The fidelity experiment on a small scale: every training once, nothing twice, and its table against SciPy."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxmark_torch.history import EpochRecord, History
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.recipes import KEY_KINDS
from onnxmark_torch.tasks import ImageTask, digits
from rich.console import Console
from scipy import stats

from benchmarks.uchida import fidelity
from benchmarks.uchida.fidelity import Experiment, Trial, run, trials
from benchmarks.uchida.fidelity_table import EMBEDDINGS, Cost, rows
from benchmarks.uchida.journal import Journal, Result
from benchmarks.uchida.setting import FULL, SHAPE, SMALL, Setting, public_key
from tests.adapters.test_training_loop import assert_same, differ, weights

TINY = replace(
    SMALL,
    name="tiny",
    n_training=256,
    from_scratch=TrainingPlan(epochs=2, batch_size=64),
    fine_tuning=TrainingPlan(epochs=1, batch_size=64, rate=0.01),
)
PER_SEED = len(EMBEDDINGS) * (1 + len(KEY_KINDS))


@pytest.fixture(scope="module")
def task() -> ImageTask:
    pytest.importorskip("sklearn")
    return digits().smaller(256, 100)


def experiment(task: ImageTask, folder: Path, setting: Setting = TINY) -> Experiment:
    return Experiment(setting, task, torch.device("cpu"), folder)


def result(embedding: str = "train", key: str = "full", seed: int = 0, error: float = 0.1) -> Result:
    figures = (None, None, None) if key == "none" else (0.0, 0.25, 1.5)
    return Result(embedding, key, seed, error, *figures, seconds=2.0)


def silent() -> Console:
    return Console(file=StringIO(), width=400)


class TestSettings:
    @pytest.mark.parametrize("setting", [SMALL, FULL], ids=lambda setting: setting.name)
    def test_the_layer_marked_has_the_papers_shape(self, setting, task):
        model = setting.network(task, 0)
        assert tuple(model.get_submodule(setting.layer).weight.shape) == SHAPE
        for kind in KEY_KINDS:
            assert public_key(setting, kind, 0).carrier.shape == SHAPE

    def test_the_full_one_is_the_papers(self):
        assert (FULL.widening, FULL.stem_stride, FULL.n_training) == (4, 1, None)
        assert FULL.from_scratch == TrainingPlan(epochs=200, batch_size=64, rate=0.1, weight_decay=5e-4)
        assert FULL.layer == "conv2.0.conv2"

    def test_networks_depend_on_the_seed_alone(self, task):
        torch.manual_seed(5)
        state = torch.get_rng_state()
        one, again, other = (weights(TINY.network(task, seed)) for seed in (3, 3, 4))
        assert torch.equal(torch.get_rng_state(), state)
        assert_same(one, again)
        assert differ(one, other)

    def test_keys_differ_by_kind_and_seed(self):
        keys = [public_key(TINY, kind, seed) for kind in KEY_KINDS for seed in range(3)]
        assert len({key.seed.reveal() for key in keys}) == len({key.salt for key in keys}) == 12


class TestTrials:
    def test_every_embedding_with_every_key_and_its_control(self):
        found = [trial.name for trial in trials(2)]
        assert len(found) == len(set(found)) == 2 * PER_SEED == 30
        assert found[0] == ("train", "none", 0)
        for embedding in EMBEDDINGS:
            for seed in (0, 1):
                keys = {key for each, key, its_seed in found if (each, its_seed) == (embedding, seed)}
                assert keys == {"none", "direct", "diff", "random", "full"}


class TestJournal:
    def test_what_is_added_is_there(self, tmp_path):
        journal = Journal(tmp_path / "new" / "x.jsonl", "this")
        assert journal.results() == ()
        journal.add(result())
        journal.add(result(key="none"))
        assert journal.results() == (result(), result(key="none"))
        assert [each.name for each in journal.path.parent.iterdir()] == ["x.jsonl"]

    def test_every_line_is_json_and_says_what_it_was_measured_with(self, tmp_path):
        journal = Journal(tmp_path / "x.jsonl", "this")
        journal.add(result(error=0.125))
        (line,) = journal.path.read_text().splitlines()
        found = json.loads(line)
        assert (found["experiment"], found["error"], found["key"]) == ("this", 0.125, "full")

    def test_a_line_that_was_cut_off_does_not_count(self, tmp_path):
        journal = Journal(tmp_path / "x.jsonl", "this")
        journal.add(result())
        journal.add(result(seed=1))
        journal.path.write_text(journal.path.read_text()[:-20])
        assert journal.results() == (result(),)
        journal.add(result(seed=2))
        assert journal.results() == (result(), result(seed=2))

    def test_results_of_another_experiment_are_refused(self, tmp_path):
        Journal(tmp_path / "x.jsonl", "that").add(result())
        with pytest.raises(ValueError, match=r"holds another experiment \(that\); this one is this"):
            Journal(tmp_path / "x.jsonl", "this").results()


class TestCost:
    def test_the_interval_is_scipys(self):
        rng = np.random.default_rng(0)
        marked = [result(seed=seed, error=error) for seed, error in enumerate(rng.uniform(0, 1, 5))]
        controls = [result(key="none", seed=seed, error=error) for seed, error in enumerate(rng.uniform(0, 1, 5))]
        cost = Cost.of(marked, controls[::-1])
        test = stats.ttest_rel([each.error for each in marked], [each.error for each in controls])
        low, high = test.confidence_interval(0.95)
        assert (cost.mean - cost.half_width, cost.mean + cost.half_width) == pytest.approx((low, high), abs=1e-12)

    def test_only_seeds_that_both_have_count(self):
        controls = [result(key="none", seed=seed, error=0.1) for seed in (1, 2)]
        cost = Cost.of([result(seed=0, error=0.9), result(seed=1, error=0.2)], controls)
        assert (cost.mean, cost.half_width) == (pytest.approx(0.1), np.inf)
        assert str(cost) == "+10.00"
        assert Cost.of([result(seed=0)], controls) is None

    def test_rows(self):
        results = [
            result(key="none", seed=0, error=0.09),
            result(key="none", seed=1, error=0.11),
            result(key="direct", seed=0, error=0.10),
            result(key="direct", seed=1, error=0.14),
            result("distill", "full", error=0.2),
        ]
        # The differences are .01 and .03; t(0.975, 1) is 12.706.
        assert list(rows(results)) == [
            ("train", "none", "2", "10.00 (9.00-11.00)", "-", "-", "-", "-", "2", "8.04", "-"),
            (
                *("train", "direct", "2", "12.00 (10.00-14.00)", "+2.00 ± 12.71"),
                *("0.0000", "2.50e-01", "1.50", "2", "8.21", "1.24e-1"),
            ),
            ("distill", "full", "1", "20.00 (20.00-20.00)", "-", "0.0000", "2.50e-01", "1.50", "2", "-", "-"),
        ]


@pytest.fixture(scope="module")
def folder(task, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fidelity")
    run(experiment(task, folder), 1, silent())
    return folder


class TestExperiment:
    def test_every_training_leaves_a_line_and_no_checkpoint(self, task, folder):
        found = experiment(task, folder).journal.results()
        assert [each.trial for each in found] == [trial.name for trial in trials(1)]
        assert sorted(path.name for path in folder.iterdir()) == ["fidelity.jsonl", "finished-0.pt"]
        for each in found:
            assert 0 < each.error < 1
            assert (each.bit_error_rate is None) == (each.key == "none")

    def test_nothing_is_done_twice(self, task, folder, monkeypatch):
        monkeypatch.setattr(fidelity, "train_to_embed", None)
        before = (folder / "fidelity.jsonl").read_bytes()
        run(experiment(task, folder), 1, silent())
        assert (folder / "fidelity.jsonl").read_bytes() == before

    def test_an_interrupted_experiment_ends_as_if_it_had_not_been(self, task, folder, tmp_path, monkeypatch):
        made, calls = experiment(task, tmp_path), []
        fine_tune = fidelity.fine_tune_to_embed

        def interrupted(*arguments, **named):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return fine_tune(*arguments, **named)

        monkeypatch.setattr(fidelity, "fine_tune_to_embed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(made, 1, silent())
        assert len(made.journal.results()) == 6
        run(made, 1, silent())
        whole = experiment(task, folder).journal.results()
        assert [replace(each, seconds=0) for each in made.journal.results()] == [
            replace(each, seconds=0) for each in whole
        ]

    def test_the_control_is_what_others_start_from(self, task, folder):
        made = experiment(task, folder)
        stored = torch.load(folder / "finished-0.pt", weights_only=True)
        trained = made._embed(Trial("train", None, 0), folder / "unused").model
        (folder / "unused").unlink()
        assert_same(weights(trained), stored)

    @pytest.mark.parametrize(("n_steps", "measured"), [(20, 20), (40, 40), (1000, 64)])
    def test_the_estimate_is_what_steps_take_times_their_number(self, task, tmp_path, monkeypatch, n_steps, measured):
        made = experiment(task, tmp_path, replace(TINY, from_scratch=TrainingPlan(epochs=30, batch_size=4)))
        seen = []

        def half_a_second_a_step(model, some, plan, **named):
            seen.append(plan.steps(len(some.training)))
            return History((EpochRecord(1, 0.1, 1.0, 0.5, seen[-1], seconds=0.5 * seen[-1]),))

        monkeypatch.setattr(fidelity, "train", half_a_second_a_step)
        assert made.seconds_an_epoch(n_steps) == pytest.approx(0.5 * 256 / 4)
        assert seen == [measured] * 2
        # 30 epochs from scratch, 40 with a teacher, 1 of fine-tuning, five times each: 355 epochs of 32 s a seed.
        assert "an unmarked epoch takes 32.0 s here: about 6.3 h for 2 seeds, 1.1 h for the 5 train" in made.estimate(
            5, 2
        )


def test_it_says_what_it_is_for():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.uchida.fidelity", "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert "What does a mark cost in accuracy?" in done.stdout
    assert all(option in done.stdout for option in ("--full", "--device", "--seeds", "--resume", "--show"))
