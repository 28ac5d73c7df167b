"""Tails against scipy, brute force and simulation: things we did not write."""

import itertools
import math
from fractions import Fraction
from operator import mul

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from onnxmark.statistics import (
    log10_binomial_tail,
    log10_poisson_binomial_tail,
    log10_two_urn_tail,
    log10_union,
    mean_interval,
    sign_flip_test,
    student_t_quantile,
)


@pytest.mark.parametrize("trials", [1, 2, 17, 64, 256, 1024, 2048])
def test_binomial_tail_agrees_with_scipy(trials):
    for successes in {0, 1, trials // 3, trials // 2, (3 * trials) // 4}:
        expected = stats.binom.logsf(successes - 1, trials, 0.5) / math.log(10)
        assert log10_binomial_tail(successes, trials) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("trials", [1, 17, 2048])
def test_binomial_tail_at_its_end(trials):
    # scipy's logsf has underflowed to -inf by here.
    assert log10_binomial_tail(trials, trials) == pytest.approx(-trials * math.log10(2))
    assert log10_binomial_tail(trials - 1, trials) == pytest.approx(math.log10(trials + 1) - trials * math.log10(2))


def test_binomial_tail_beyond_the_trials():
    assert log10_binomial_tail(11, 10) == -math.inf
    assert log10_binomial_tail(-3, 10) == 0


@pytest.mark.parametrize(
    ("trials", "needed"),
    [(64, [51, 56, 59]), (256, [167, 176, 184]), (1024, [589, 609, 625]), (2048, [1132, 1161, 1184])],
)
def test_matches_needed_at_the_usual_levels(trials, needed):
    for level, count in zip((-6, -9, -12), needed, strict=True):
        assert log10_binomial_tail(count, trials) <= level < log10_binomial_tail(count - 1, trials)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.integers(-1, 10))
def test_poisson_binomial_tail_by_brute_force(chances, successes):
    exact = sum(
        math.prod(p if hit else 1 - p for p, hit in zip(chances, hits, strict=True))
        for hits in itertools.product((0, 1), repeat=len(chances))
        if sum(hits) >= successes
    )
    got = 10 ** log10_poisson_binomial_tail(np.array(chances), successes)
    assert got == pytest.approx(min(exact, 1), rel=1e-9, abs=1e-280)


@pytest.mark.parametrize(
    ("positives", "negatives", "ones", "zeros"), [(3, 4, 2, 3), (5, 2, 4, 0), (2, 5, 0, 4), (4, 4, 4, 4)]
)
def test_two_urn_tail_by_brute_force(positives, negatives, ones, zeros):
    urn = [1] * positives + [0] * negatives
    draws = [
        sum(urn[i] for i in order[:ones]) + sum(1 - urn[i] for i in order[ones:])
        for order in itertools.permutations(range(len(urn)), ones + zeros)
    ]
    for successes in range(ones + zeros + 1):
        exact = np.mean(np.array(draws) >= successes)
        assert 10 ** log10_two_urn_tail(positives, negatives, ones, zeros, successes) == pytest.approx(exact, abs=1e-12)


def test_two_urn_tail_is_hypergeometric_for_a_constant_message():
    expected = stats.hypergeom.logsf(169, 576, 250, 256) / math.log(10)
    assert log10_two_urn_tail(250, 326, 256, 0, 170) == pytest.approx(expected, abs=1e-8)


def test_two_urn_tail_needs_enough_positions():
    with pytest.raises(ValueError, match="11 distinct positions do not exist among 10"):
        log10_two_urn_tail(5, 5, 6, 5, 3)


def exact_sign_flip(margins):
    exact = [Fraction(margin) for margin in margins.tolist()]
    sums = [sum(map(mul, signs, map(abs, exact))) for signs in itertools.product((-1, 1), repeat=len(exact))]
    return sum(total >= sum(exact) for total in sums) / len(sums)


@given(st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=1, max_size=8))
def test_sign_flip_bound_is_never_below_the_exact_tail(values):
    margins = np.array(values)
    result = sign_flip_test(margins)
    assert 10**result.log10_bound >= exact_sign_flip(margins) * (1 - 1e-9)
    assert result.log10_estimate <= 0


def test_sign_flip_with_every_sign_right_is_two_to_the_minus_t():
    margins = np.abs(np.random.default_rng(0).standard_normal(256)) + 0.01
    result = sign_flip_test(margins)
    assert result.log10_bound == result.log10_estimate == pytest.approx(-256 * math.log10(2))


def test_erasures_weigh_nothing():
    margins = np.array([1.0, 2.0, 0.5, 3.0])
    with_erasures = np.concatenate([margins, np.zeros(10)])
    assert sign_flip_test(with_erasures) == sign_flip_test(margins)
    assert sign_flip_test(np.zeros(8)).log10_bound == 0


def test_scale_does_not_matter():
    margins = np.random.default_rng(1).standard_normal(100) + 0.3
    for scale in (1e-300, 1e-20, 1e20, 1e300):
        assert sign_flip_test(margins * scale).log10_bound == pytest.approx(
            sign_flip_test(margins).log10_bound, rel=1e-9
        )


def test_saddle_point_agrees_with_simulation():
    rng = np.random.default_rng(7)
    sizes = rng.exponential(size=64)
    sums = (rng.choice([-1.0, 1.0], (200_000, 64)) * sizes).sum(axis=1)
    for level in (0.3, 0.1, 0.01, 0.001):
        target = np.quantile(sums, 1 - level)
        signs = _signs_that_sum_to(sizes, target)
        estimate = 10 ** sign_flip_test(signs * sizes).log10_estimate
        assert estimate == pytest.approx(np.mean(sums >= (signs * sizes).sum()), rel=0.25)


def _signs_that_sum_to(sizes, target):
    """Greedy: any sign pattern whose sum is close to the target."""
    signs = np.ones_like(sizes)
    for index in np.argsort(-sizes):
        if (signs * sizes).sum() - 2 * sizes[index] >= target:
            signs[index] = -1
    return signs


def test_the_bound_costs_little_more_than_a_decade():
    rng = np.random.default_rng(3)
    for shift in (0.2, 0.5, 1.0):
        result = sign_flip_test(rng.standard_normal(256) + shift)
        assert 0 <= result.log10_bound - result.log10_estimate < 1.6


def test_null_p_values_of_the_sign_flip_test_are_uniform_or_larger():
    rng = np.random.default_rng(11)
    results = [sign_flip_test(rng.standard_t(4, size=128) * rng.choice([-1.0, 1.0], 128)) for _ in range(4000)]
    estimates = 10 ** np.array([result.log10_estimate for result in results])
    bounds = 10 ** np.array([result.log10_bound for result in results])
    assert stats.kstest(estimates, "uniform").pvalue > 1e-3
    for level in (0.1, 0.01, 0.001):
        assert np.mean(bounds <= level) <= level


def test_union():
    assert log10_union(-10, 1000) == pytest.approx(-7)
    assert log10_union(-1, 1000) == 0


@pytest.mark.parametrize("freedom", [*range(1, 32), 99, 1000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_student_t_quantile_agrees_with_scipy(confidence, freedom):
    expected = stats.t.ppf(0.5 + confidence / 2, freedom)
    assert student_t_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_interval_of_a_mean_agrees_with_scipy(samples):
    low, high = mean_interval(np.array(samples))
    expected = stats.ttest_1samp(samples, 0.0).confidence_interval(0.95) if np.std(samples) > 1e-12 else (low, high)
    assert (low, high) == pytest.approx(tuple(expected), rel=1e-6, abs=1e-9)
    assert low <= np.mean(samples) + 1e-12
    assert high >= np.mean(samples) - 1e-12


def test_an_interval_takes_two_samples():
    with pytest.raises(ValueError, match="two samples or more, found 1"):
        mean_interval(np.array([0.5]))
