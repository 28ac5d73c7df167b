"""Trigger sets: drawn labels have the law of dice, chosen ones are told to have none."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from onnxmark.errors import KeyFileError
from onnxmark.schemes.answers.trigger import TriggerOptions, TriggerScheme
from onnxmark.schemes.scheme import Answers

SCHEME = TriggerScheme()
N, C = 60, 10
INPUTS = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)


def drawn(classes=C, inputs=INPUTS):
    return SCHEME.make_key(inputs, None, TriggerOptions(classes))


def test_drawn_labels_are_uniform_over_all_classes():
    labels = SCHEME.labels(drawn(C, np.zeros((5000, 1), np.float32)))
    assert stats.chisquare(np.bincount(labels, minlength=C)).pvalue > 1e-6


def test_hits_follow_the_binomial_of_one_in_classes():
    key = drawn()
    decisions = SCHEME.labels(key).copy()
    decisions[20:] = (decisions[20:] + 1) % C
    evidence = SCHEME.extract(key, Answers(decisions))
    assert evidence.log10_p == pytest.approx(stats.binom.logsf(19, N, 1 / C) / np.log(10), abs=1e-9)
    assert (evidence.n_errors, evidence.n_symbols, evidence.symbol) == (40, N, "trigger")


def test_chosen_labels_have_no_probability_even_where_all_are_right():
    labels = np.full(N, 3)
    key = SCHEME.make_key(INPUTS, labels, TriggerOptions())
    evidence = SCHEME.extract(key, Answers(labels))
    assert evidence.log10_p == 0
    assert "60 of 60 triggers are answered as labelled" in evidence.degenerate
    assert np.array_equal(SCHEME.labels(key), labels)
    assert "no null" in SCHEME.facts(key)["labels"]


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        (None, 0, "either labels of your own or the number of classes"),
        (np.zeros(N, int), 10, "either labels of your own or the number of classes"),
        (np.zeros(N - 1, int), 0, "60 class indices"),
        (np.full(N, 0.5), 0, "60 class indices"),
        (np.full(N, -1), 0, "60 class indices"),
    ],
)
def test_what_makes_no_key(labels, classes, words):
    with pytest.raises(KeyFileError, match=words):
        SCHEME.make_key(INPUTS, labels, TriggerOptions(classes))


@pytest.mark.parametrize("classes", [1, -3, 2**40])
def test_numbers_of_classes_that_make_no_sense(classes):
    with pytest.raises(ValueError, match="two classes or more"):
        TriggerOptions(classes)
    with pytest.raises(KeyFileError, match="draws labels from"):
        SCHEME.facts(replace(drawn(), parameters={"classes": classes}))


def test_a_key_without_labels():
    key = replace(drawn(), parameters={"classes": 0})
    with pytest.raises(KeyFileError, match="neither draws labels nor holds any"):
        SCHEME.labels(key)
