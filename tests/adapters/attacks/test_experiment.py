"""The parts of the robustness experiment that no training is needed for."""

from __future__ import annotations

import dataclasses
from io import StringIO

import numpy as np
import pytest
from onnxmark_torch.attacks import TrialBench
from onnxmark_torch.data import Examples, load_digits
from onnxmark_torch.tasks import fashion_mnist
from rich.console import Console

from benchmarks.uchida import robustness, robustness_attacks
from benchmarks.uchida.robustness_table import RECALLED, Row, table
from onnxmark.attacks import MagnitudePruning
from onnxmark.robustness import Trial
from onnxmark.verdict import inconclusive
from tests.adapters.attacks.subjects import task

SIZES = pytest.mark.parametrize(
    "size", [robustness_attacks.SMALL_SIZE, robustness_attacks.FULL_SIZE], ids=lambda size: size.name
)


@SIZES
def test_recipes_of_an_experiment_have_labels_and_files_of_their_own(size):
    recipes = (*robustness_attacks.PRUNINGS, *robustness_attacks.training_attacks(size))
    assert len({recipe.label for recipe in recipes}) == len(recipes)
    experiment = robustness.Experiment(size, robustness.CARRIERS[0], task(), None, robustness.OUT)
    assert len({experiment._path(recipe) for recipe in recipes}) == len(recipes)


@SIZES
def test_every_figure_recalled_is_of_an_attack_that_is_tried(size):
    recipes = (*robustness_attacks.PRUNINGS, *robustness_attacks.training_attacks(size))
    assert set(RECALLED) <= {(recipe.name, float(recipe.parameter)) for recipe in recipes}


def test_the_carriers_are_uchidas_and_ours():
    assert [(kind.generator, kind.carrier) for kind in robustness.CARRIERS] == [
        ("gaussian", "mean-ihw"),
        ("rademacher", "full"),
    ]


def test_enlarged_digits_are_the_digits_seen_large():
    """Averaging squares gives the small image back; the frame is black."""
    small = load_digits().test.first(5)
    large = robustness_attacks.enlarged(small, 3, 28, 30)
    assert large.images.shape == (5, 3, 28, 30)
    inside = large.images[:, :, 2:26, 3:27].reshape(5, 3, 8, 3, 8, 3)
    np.testing.assert_array_equal(inside.mean(axis=(3, 5)), np.repeat(small.images, 3, axis=1))
    assert large.images.astype(int).sum() == 27 * small.images.astype(int).sum()
    np.testing.assert_array_equal(large.labels, small.labels)


def test_digits_go_where_fashion_goes():
    pytest.importorskip("sklearn")
    images = np.zeros((2, 3, 32, 32), dtype=np.uint8)
    colour = Examples(images, np.array([0, 1]), ("a", "b"))
    stand_in = dataclasses.replace(task(), data=dataclasses.replace(task().data, training=colour))
    assert robustness_attacks.digits_like(stand_in).training.images.shape[1:] == (3, 32, 32)


def row(carrier, label, ratio=None, attack="prune", parameter=0.65):
    judgement = inconclusive("not tried", 1)
    trial = Trial(MagnitudePruning(0.65), 0.125, None, (judgement,))
    return Row(carrier, label, attack, parameter, trial, 12.4, ratio)


def test_the_table_has_a_line_an_attack_and_both_carriers_in_it():
    drawn = table([row("random", "a"), row("random", "b", 7.26), row("full", "a"), row("full", "b")], "title")
    console = Console(width=140, file=StringIO())
    console.print(drawn)
    text = console.file.getvalue()
    assert drawn.row_count == 2
    assert "7.3" in text
    assert text.count("0.125") == 4
    assert text.count("0 %") == 2  # beside Uchida's carrier only


def test_a_row_is_plain_data():
    figures = row("full", "a", 3.0).figures
    assert figures["bit_error_rate"] == 0.125
    assert figures["compression_ratio"] == 3.0
    assert figures["accuracy_after"] is None
    assert figures["recipe"] == repr(MagnitudePruning(0.65))


def test_a_file_counts_as_done_only_when_it_is_whole(tmp_path):
    experiment = robustness.Experiment(robustness_attacks.SMALL_SIZE, robustness.CARRIERS[0], task(), None, tmp_path)

    def interrupted(part):
        part.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment._write(tmp_path / "model.onnx", interrupted)
    assert not (tmp_path / "model.onnx").exists()
    experiment._write(tmp_path / "model.onnx", lambda part: part.write_text("whole"))
    assert (tmp_path / "model.onnx").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_the_bench_of_an_experiment_is_the_adapters():
    assert robustness.TrialBench is TrialBench
    assert fashion_mnist.__module__ == "onnxmark_torch.tasks"
