"""The benchmark's statistics against SciPy and brute force, and their null over keys."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from benchmarks.ingrain.evidence import Evidence, evidence, pooled, signed, standardised, votes_of
from benchmarks.ingrain.readings import READINGS, fitted, plain, studentised

READING = pytest.mark.parametrize("reading", READINGS.values(), ids=list(READINGS))


def judged(leanings, coins, votes=None) -> Evidence:
    given_votes = np.sign(leanings) if votes is None else votes
    return evidence(np.asarray(given_votes, float), np.asarray(leanings, float), np.asarray(coins, np.uint8), 0.5)


class TestEvidence:
    def test_signs_and_votes_are_scipys_binomial(self):
        rng = np.random.default_rng(0)
        coins, leanings = rng.integers(0, 2, 60), rng.normal(0.3, 1, 60)
        votes = np.where(rng.random(60) < 0.2, 0.0, np.sign(rng.normal(0.5, 1, 60)))
        found = judged(leanings, coins, votes)
        wanted = 2 * coins - 1
        hits, cast = int((votes == wanted).sum()), int((votes != 0).sum())
        assert 10**found.argmax == pytest.approx(stats.binom.sf(hits - 1, cast, 0.5), rel=1e-9)
        right = int((np.sign(leanings) == wanted).sum())
        assert 10**found.signs == pytest.approx(stats.binom.sf(right - 1, 60, 0.5), rel=1e-9)

    def test_bounds_are_above_the_exact_tail_and_in_order(self):
        """Over all 2^12 settings of the coins: the sum's exact tail, below the sign-flip bound, below Hoeffding's."""
        rng = np.random.default_rng(1)
        for _ in range(5):
            leanings = rng.normal(0, 1, 12) * rng.gamma(1, 1, 12)
            coins = rng.integers(0, 2, 12)
            margins = signed(leanings, coins.astype(np.uint8))
            all_sums = np.array(list(itertools.product([-1, 1], repeat=12))) @ np.abs(margins)
            exact = np.mean(all_sums >= margins.sum() - 1e-9)
            found = judged(leanings, coins)
            assert np.log10(exact) <= found.flips + 1e-9
            assert found.flips <= found.hoeffding + 1e-9
            assert found.z == pytest.approx(margins.sum() / np.sqrt((margins**2).sum()))

    def test_votes_of_neighbourhoods_are_bounded(self):
        votes, coins = np.array([3.0, -2, 4, 1, -3, 2, 2, -1, 4, 3]), np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1])
        found = judged(votes, coins, votes)
        assert found.argmax == pytest.approx(-10 * np.log10(2))
        turned = judged(votes, np.array([0, 0, 1, 1, 0, 1, 1, 0, 1, 1]), votes)
        sums = np.array(list(itertools.product([-1, 1], repeat=10))) @ np.abs(votes)
        assert turned.argmax >= np.log10(np.mean(sums >= np.abs(votes).sum() - 6))

    def test_turning_coins_and_answers_changes_nothing(self):
        rng = np.random.default_rng(2)
        leanings, coins = rng.normal(size=40), rng.integers(0, 2, 40)
        assert judged(leanings, coins) == judged(-leanings, 1 - coins)

    def test_a_suspect_that_says_nothing_is_no_evidence(self):
        found = judged(np.zeros(20), np.ones(20))
        assert (found.argmax, found.signs, found.z, found.hoeffding, found.flips) == (0, 0, 0, 0, 0)

    def test_answers_against_the_coins_are_no_evidence(self):
        found = judged(np.ones(20), np.zeros(20))
        assert found.z == pytest.approx(-np.sqrt(20))
        assert (found.hoeffding, found.flips) == (0, 0)
        assert found.signs == pytest.approx(0, abs=1e-12)

    @READING
    def test_under_random_coins_every_statistic_keeps_its_promise(self, reading):
        """An unmarked suspect that leans heavily and leans as the references do, against 4,000 keys."""
        rng = np.random.default_rng(3)
        common = rng.normal(0, 1, 80)
        references, suspect = common + rng.normal(0, 1, (4, 80)), 2 * common + 0.5 + rng.normal(0, 1, 80)
        pairs = np.stack([np.arange(80) % 3, np.arange(80) % 3 + 1], axis=1)
        leanings = reading(suspect, references, pairs)
        found = [judged(leanings, coins) for coins in rng.integers(0, 2, (4000, 80))]
        for statistic in ("argmax", "signs", "hoeffding", "flips"):
            p_values = 10 ** np.array([getattr(one, statistic) for one in found])
            for level in (0.1, 0.01):
                # Four standard deviations above what is promised.
                assert np.mean(p_values <= level) <= level + 4 * np.sqrt(level / 4000), (statistic, level)
        assert np.std([one.z for one in found]) == pytest.approx(1, abs=0.05)


class TestPooling:
    def test_sums_over_those_that_share_a_coin(self):
        groups = np.array([0, 1, 0, 2, 1])
        assert pooled(np.arange(5.0), groups).tolist() == [2, 5, 3]
        both = pooled(np.stack([np.arange(5.0), np.ones(5)]), groups)
        assert both.tolist() == [[2, 5, 3], [2, 2, 1]]

    def test_everybody_alone_is_as_before(self):
        figures = np.random.default_rng(0).normal(size=(3, 7))
        assert np.array_equal(pooled(figures, np.arange(7)), figures)

    def test_votes_are_for_the_second_or_the_first_class(self):
        pairs = np.array([[0, 1], [0, 1], [0, 1], [2, 5]])
        assert votes_of(np.array([1, 0, 3, 5]), pairs).tolist() == [1, -1, 0, 1]


class TestReadings:
    def references(self, count: int = 50) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(4)
        first = rng.integers(0, 3, count)
        return rng.normal(size=(4, count)), np.stack([first, first + 1], axis=1)

    @READING
    def test_a_reading_is_of_the_references_size(self, reading):
        references, pairs = self.references()
        assert reading(np.ones(50), references, pairs).shape == (50,)

    def test_the_plain_one_is_the_difference_to_the_mean(self):
        references, pairs = self.references()
        assert plain(references.mean(axis=0) + 2, references, pairs) == pytest.approx(np.full(50, 2.0))

    def test_what_references_disagree_about_counts_less(self):
        references, pairs = self.references()
        references[:, 0] *= 100
        found = studentised(references.mean(axis=0) + 1, references, pairs)
        assert abs(found[0]) < 0.05 * np.median(np.abs(found))

    def test_a_mixture_of_references_and_an_offset_a_class_are_taken_out(self):
        references, pairs = self.references()
        suspect = 0.3 * references[0] + 1.7 * references[2] + np.array([4.0, -1, 2])[pairs[:, 0]]
        assert fitted(suspect, references, pairs) == pytest.approx(np.zeros(50), abs=1e-9)

    def test_what_is_left_is_orthogonal_to_what_was_known(self):
        references, pairs = self.references()
        left = fitted(np.random.default_rng(5).normal(size=50), references, pairs)
        assert references @ left == pytest.approx(np.zeros(4), abs=1e-9)
        assert [left[pairs[:, 0] == one].sum() for one in range(3)] == pytest.approx([0, 0, 0], abs=1e-9)


def test_standardised_is_scale_free():
    margins = np.array([1.0, -2.0, 5.0])
    assert standardised(margins) == pytest.approx(standardised(1000 * margins))
    assert standardised(np.zeros(3)) == 0.0
