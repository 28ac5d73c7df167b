"""Coins on boundary inputs: carriers are the nearest of the pool, and every statistic has the law it claims."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from onnxmark.errors import KeyFileError
from onnxmark.keys import Key, load_key, save_key
from onnxmark.schemes.answers import inputs as stored
from onnxmark.schemes.answers.ingrain import IngrainOptions, IngrainScheme, log_ratios, near_boundary
from onnxmark.schemes.scheme import Answers

SCHEME = IngrainScheme()
N_POOL, N, C = 500, 120, 6


@pytest.fixture(autouse=True)
def _cheap(cheap_stretching):
    """Hundreds of keys are made here."""


def pool(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N_POOL, 2, 3)).astype(np.float32), [rng.standard_normal((N_POOL, C)) for _ in range(3)]


def fresh(statistic="z", n=N):
    return SCHEME.make_key(*pool(), IngrainOptions(carriers=n, statistic=statistic))


def answers(scores):
    return Answers(scores.argmax(axis=1), scores)


def marked(key, strength=1.0, noise=0.0, seed=1):
    """Answers that lean to the coin's side by ``strength`` in the log-ratio."""
    rng = np.random.default_rng(seed)
    pairs, signs = key.arrays["pairs"], np.where(key.message == 1, 1, -1)
    scores = rng.standard_normal((key.n_bits, C)) * noise - 5
    rows = np.arange(key.n_bits)
    scores[rows, pairs[:, 0]] += 5 + key.arrays["expected"] / 2 + signs * strength / 2
    scores[rows, pairs[:, 1]] += 5 - key.arrays["expected"] / 2 - signs * strength / 2
    return answers(scores)


class TestCarriers:
    def test_are_the_nearest_to_a_boundary_of_the_first_reference(self):
        inputs, references = pool()
        key = fresh()
        best = np.sort(references[0], axis=1)
        lead = best[:, -1] - best[:, -2]
        wanted = np.sort(np.argsort(lead)[:N])
        assert np.array_equal(key.arrays["inputs"], inputs[wanted])
        assert np.array_equal(
            np.sort(key.arrays["pairs"], axis=1), np.sort(references[0][wanted].argsort(axis=1)[:, -2:])
        )

    def test_expect_what_the_references_answer_on_average(self):
        _, references = pool()
        key = fresh()
        lead = np.sort(references[0], axis=1)
        chosen = np.sort(np.argsort(lead[:, -1] - lead[:, -2])[:N])
        pairs = key.arrays["pairs"]
        ratios = [np.log(softmax(ref[chosen])) for ref in references]
        mean = np.mean([r[np.arange(N), pairs[:, 0]] - r[np.arange(N), pairs[:, 1]] for r in ratios], axis=0)
        np.testing.assert_allclose(key.arrays["expected"], mean, atol=1e-5)

    def test_labels_are_of_the_pair_and_follow_the_coin(self):
        key = fresh()
        labels, pairs = SCHEME.labels(key), key.arrays["pairs"]
        assert np.array_equal(labels == pairs[:, 0], key.message == 1)
        assert np.all((labels == pairs[:, 0]) | (labels == pairs[:, 1]))
        assert 30 < key.message.sum() < 90

    def test_the_coins_know_nothing_of_pool_or_references(self):
        assert not np.array_equal(fresh().message, fresh().message)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"references": []}, "at least one unmarked reference"),
            ({"n": N_POOL + 1}, "holds 500 inputs and the key asks for 501"),
            ({"references": [np.zeros((N_POOL, 3)), np.zeros((N_POOL, 4))]}, "scores of the same two classes"),
            ({"references": [np.zeros((N_POOL - 1, 3))]}, "scores of the same two classes"),
            ({"references": [np.full((N_POOL, 3), np.nan)]}, "not all finite"),
            ({"inputs": np.array(["a"] * N_POOL)[:, None]}, "must be numbers"),
            ({"inputs": np.full((N_POOL, 2), np.inf)}, "must be finite"),
        ],
    )
    def test_what_makes_no_key(self, change, words):
        inputs, references = pool()
        with pytest.raises(KeyFileError, match=words):
            SCHEME.make_key(
                change.get("inputs", inputs), change.get("references", references), IngrainOptions(change.get("n", N))
            )

    def test_no_carriers_at_all(self):
        with pytest.raises(ValueError, match="at least 1, not 0, 1 and 1"):
            IngrainOptions(carriers=0)


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


class TestStatistics:
    def test_sgn_is_the_binomial_of_scipy(self):
        key = fresh("sgn")
        evidence = SCHEME.extract(key, marked(key, 0.3, noise=1.0))
        right = N - evidence.n_errors
        assert 0 < evidence.n_errors < N
        assert evidence.log10_p == pytest.approx(stats.binom.logsf(right - 1, N, 0.5) / np.log(10), abs=1e-9)
        assert evidence.tests[0].name.startswith("SGN")

    def test_arg_counts_only_answers_within_the_pair(self):
        key = fresh("arg")
        decisions = SCHEME.labels(key).copy()
        pairs = key.arrays["pairs"]
        decisions[:30] = [next(c for c in range(C) if c not in pair) for pair in pairs[:30]]
        wrong = np.where(decisions == pairs[:, 0], pairs[:, 1], pairs[:, 0])
        decisions[30:40] = wrong[30:40]
        evidence = SCHEME.extract(key, Answers(decisions, np.eye(C)[decisions]))
        assert evidence.log10_p == pytest.approx(stats.binom.logsf(79, 90, 0.5) / np.log(10), abs=1e-9)
        assert (evidence.n_errors, evidence.n_erasures) == (40, 30)
        assert "one of the pair for 90 of 120 carriers, the coin's class for 80" in evidence.notes[0]

    def test_z_sees_more_than_counting_where_the_sure_ones_are_right(self):
        key = fresh("z")
        sure, unsure = marked(key, 6.0), marked(key, 0.0, noise=0.3)
        pairs, rows = key.arrays["pairs"], np.arange(N)
        scores = sure.scores.copy()
        scores[40:] = unsure.scores[40:]
        scores[rows[40:], pairs[40:, 0]] += np.random.default_rng(2).standard_normal(N - 40) * 0.3
        tests = {test.name[:3]: test.log10_p for test in SCHEME.extract(key, answers(scores)).tests}
        assert tests["Z ("] < tests["SGN"] - 3

    def test_all_right_is_two_to_the_minus_n(self):
        key = fresh()
        evidence = SCHEME.extract(key, marked(key))
        assert evidence.n_errors == 0
        assert evidence.log10_p == pytest.approx(-N * np.log10(2))

    def test_constants_added_to_an_input_s_scores_change_nothing(self):
        key = fresh()
        read = marked(key, 0.3, noise=1.0)
        shifted = answers(read.scores + np.arange(N)[:, None])
        np.testing.assert_allclose(SCHEME.extract(key, shifted).margins, SCHEME.extract(key, read).margins, atol=1e-9)

    @pytest.mark.parametrize("statistic", ["z", "sgn", "arg"])
    def test_strangers_are_uniform_whatever_they_answer(self, statistic):
        rng = np.random.default_rng(5)
        biased = answers(rng.standard_normal((N, C)) + np.array([3, 1, 0, 0, 0, 0]))
        found = np.array([SCHEME.extract(fresh(statistic), biased).log10_p for _ in range(400)])
        for level in (0.1, 0.02):
            hits = int(np.sum(found <= np.log10(level)))
            assert stats.binom.sf(hits - 1, 400, level) > 1e-5

    def test_labels_only_fall_back_to_arg_and_say_so(self):
        key = fresh("z")
        evidence = SCHEME.extract(key, Answers(SCHEME.labels(key)))
        assert evidence.tests[0].name.startswith("ARG")
        assert evidence.log10_p == pytest.approx(-N * np.log10(2))
        assert "classes only" in evidence.notes[1]


class TestNoEvidence:
    def test_of_a_model_with_too_few_classes(self):
        key = fresh()
        few = np.zeros((N, 2))
        assert "the model has 2 classes" in SCHEME.extract(key, answers(few)).degenerate

    def test_of_answers_that_are_not_finite(self):
        key = fresh()
        assert "not all finite" in SCHEME.extract(key, answers(np.full((N, C), np.inf))).degenerate

    def test_of_a_class_outside_of_every_pair(self):
        key = fresh("arg")
        evidence = SCHEME.extract(key, Answers(np.full(N, C + 3)))
        assert "tell nothing" in evidence.degenerate
        assert evidence.log10_p == 0


class TestKeyFile:
    def test_round_trip(self, tmp_path):
        key = save_key(fresh(), tmp_path / "key.npy")
        again = load_key(tmp_path / "key.npy")
        assert isinstance(again, Key)
        assert again.carriers == ()
        assert np.array_equal(again.message, key.message)
        assert all(np.array_equal(again.arrays[name], key.arrays[name]) for name in key.arrays)

    def test_other_carriers_are_another_key(self):
        key = fresh()
        moved = replace(key, arrays={**key.arrays, "inputs": key.arrays["inputs"] + 1})
        assert not np.array_equal(moved.message, key.message)

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"pairs": None}, "lacks pairs"),
            ({"coins": None}, "lacks pairs"),
            ({"coins": np.zeros(N, int)}, "make no sense"),
            ({"coins": np.arange(N) + 1}, "make no sense"),
            ({"pairs": np.tile([3, 1], (N, 1))}, "make no sense"),
            ({"pairs": np.zeros((N, 3), int)}, "another form"),
            ({"pairs": np.zeros((N, 2), int)}, "make no sense"),
            ({"pairs": np.tile([0, -1], (N, 1))}, "make no sense"),
            ({"expected": np.full(N, np.nan)}, "make no sense"),
            ({"expected": np.zeros(N, int)}, "another form"),
        ],
    )
    def test_arrays_that_make_no_sense(self, arrays, words):
        key = fresh()
        changed = {name: value for name, value in {**key.arrays, **arrays}.items() if value is not None}
        with pytest.raises(KeyFileError, match=words):
            SCHEME.extract(replace(key, arrays=changed), answers(np.zeros((N, C))))

    def test_an_unknown_statistic(self):
        with pytest.raises(KeyFileError, match="unknown statistic 'magic'; there are z, sgn, arg"):
            SCHEME.facts(replace(fresh(), parameters={"statistic": "magic"}))


class TestLargeInputs:
    @pytest.fixture(autouse=True)
    def _small_limit(self, monkeypatch):
        monkeypatch.setattr(stored, "INLINE_BYTES", 100)

    def test_stay_outside_and_are_checked(self):
        key = fresh()
        assert "inputs" not in key.arrays
        with pytest.raises(KeyFileError, match="give the inputs themselves with --carriers"):
            SCHEME.inputs(key, None)
        references = pool()[1]
        lead = np.sort(references[0], axis=1)
        own = pool()[0][np.sort(np.argsort(lead[:, -1] - lead[:, -2])[:N])]
        assert SCHEME.inputs(key, own) is own
        for other in (own + 1, own[:-1], own.astype(np.float64)):
            with pytest.raises(KeyFileError, match="SHA-256 differs"):
                SCHEME.inputs(key, other)


def test_the_nearest_are_those_of_smallest_lead_on_which_references_agree():
    first = np.array([[0.1, 3.0, 2.5], [5.0, 1.0, 4.9], [3.0, 2.0, 1.0], [0.0, 1.0, 1.2]])
    chosen, pairs = near_boundary([first], 2)
    assert chosen.tolist() == [1, 3]
    assert pairs.tolist() == [[0, 2], [1, 2]]
    second = first.copy()
    second[3] = [5.0, 1.0, 0.0]
    second[0, 1] = 2.4
    assert near_boundary([first, second], 2)[0].tolist() == [0, 1]
    with pytest.raises(KeyFileError, match="agree on the classes of 3 inputs and 4 are asked for"):
        near_boundary([first, second], 4)
    np.testing.assert_allclose(log_ratios(np.array([[1.0, 4.0]]), np.array([[1, 0]])), [3.0])


class TestSharedCoins:
    def shared(self, statistic="z", size=4):
        return SCHEME.make_key(*pool(), IngrainOptions(carriers=N, statistic=statistic, shared=size))

    def test_carriers_of_a_coin_have_the_same_pair_and_lean_alike(self):
        key = self.shared()
        coins, pairs, labels = key.arrays["coins"], key.arrays["pairs"], SCHEME.labels(key)
        assert key.n_bits == coins.max() + 1 < N
        for coin in range(key.n_bits):
            members = coins == coin
            assert 1 <= members.sum() <= 4
            assert len(np.unique(pairs[members], axis=0)) == len(set(labels[members])) == 1

    def test_differences_are_added_up(self):
        key = self.shared()
        rng = np.random.default_rng(3)
        scores = rng.standard_normal((N, C))
        evidence = SCHEME.extract(key, answers(scores))
        pairs, coins = key.arrays["pairs"], key.arrays["coins"]
        rows = np.arange(N)
        leaning = scores[rows, pairs[:, 0]] - scores[rows, pairs[:, 1]] - key.arrays["expected"]
        sums = np.array([leaning[coins == coin].sum() for coin in range(key.n_bits)])
        wanted = sums * np.where(key.message == 1, 1, -1)
        np.testing.assert_allclose(evidence.margins * np.sqrt(np.mean(wanted**2)), wanted, atol=1e-6)
        assert evidence.symbol == "coin"

    @pytest.mark.parametrize("statistic", ["z", "sgn", "arg"])
    def test_strangers_are_read_fairly(self, statistic):
        rng = np.random.default_rng(5)
        biased = answers(rng.standard_normal((N, C)) + np.array([3, 1, 0, 0, 0, 0]))
        found = np.array([SCHEME.extract(self.shared(statistic), biased).log10_p for _ in range(300)])
        for level in (0.1, 0.02):
            assert stats.binom.sf(int(np.sum(found <= np.log10(level))) - 1, 300, level) > 1e-5

    def test_labels_alone_are_votes(self):
        key = self.shared("arg")
        evidence = SCHEME.extract(key, Answers(SCHEME.labels(key)))
        assert evidence.n_errors == 0
        assert evidence.log10_p == pytest.approx(-key.n_bits * np.log10(2))
        assert evidence.tests[0].name == "ARG (sign-flip)"

    def test_more_agreement_than_there_are_references(self):
        with pytest.raises(KeyFileError, match="there are 3 references and 4 have to agree"):
            SCHEME.make_key(*pool(), IngrainOptions(carriers=N, agreeing=4))
