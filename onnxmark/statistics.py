"""Exact tails: how probable a reading is when the model knows nothing of the key.

Everything is a base-10 logarithm, because honest marks reach 1e-77 and beyond, and everything a verdict rests on is
exact or an upper bound. One statistic leads: with a whitened message the signs of the margins are fair coins whatever
the weights are, so the sum of signed margins has a known law given their sizes. That *sign-flip test* is at least as
powerful as counting bits in every case we measured, and much more so under pruning and noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from onnxmark.arrays import Float64Array

LOG10_2: Final = math.log10(2)
_LN10: Final = math.log(10)


@dataclass(frozen=True, slots=True)
class SignFlip:
    """Result of the sign-flip test; logarithms to base 10, at most 0.

    Args:
        log10_estimate: Lugannani-Rice saddle-point estimate, for display.
        log10_bound: Chernoff upper bound (exact where every sign is right), for verdicts; about one decade larger.
    """

    log10_estimate: float
    log10_bound: float


def log10_ratio(numerator: int, denominator: int) -> float:
    """log10 of a ratio of non-negative integers of any size (error below 1e-11); ``-inf`` for a zero numerator."""
    if numerator == 0:
        return -math.inf
    return math.log10(numerator) - math.log10(denominator)


def log10_binomial_tail(successes: int, trials: int, sides: int = 2) -> float:
    """log10 P(Binomial(trials, 1/sides) >= successes), exact (integer arithmetic).

    Args:
        successes: The count observed.
        trials: Number of fair dice thrown.
        sides: Of each die, at least 2; coins by default.
    """
    if successes <= 0:
        return 0.0
    if successes > trials:
        return -math.inf
    # Ways to succeed exactly ``count`` times: the dice that do, and any other side for the rest.
    term = total = math.comb(trials, successes) * (sides - 1) ** (trials - successes)
    for count in range(successes, trials):
        term = term * (trials - count) // ((count + 1) * (sides - 1))
        total += term
    return min(0.0, log10_ratio(total, sides**trials))


def log10_poisson_binomial_tail(probabilities: Float64Array, successes: int) -> float:
    """log10 P(sum of independent Bernoulli(probabilities) >= successes).

    The distribution is built by convolution in double precision; a tail below 1e-290 is reported as 1e-290, never as 0.

    Args:
        probabilities: Shape (n,), each in [0, 1].
        successes: The count observed.
    """
    if successes <= 0:
        return 0.0
    if successes > probabilities.size:
        return -math.inf
    law = np.zeros(probabilities.size + 1)
    law[0] = 1.0
    for count, chance in enumerate(probabilities, start=1):
        law[1 : count + 1] = law[1 : count + 1] * (1 - chance) + law[:count] * chance
        law[0] *= 1 - chance
    return min(0.0, math.log10(max(float(law[successes:].sum()), 1e-290)))


def log10_two_urn_tail(positives: int, negatives: int, ones: int, zeros: int, successes: int) -> float:
    """log10 P(matches >= successes) when ``ones + zeros`` distinct positions are drawn from an urn of signed weights.

    A position drawn for a one matches if it is positive, one drawn for a zero if it is negative: the null of Uchida's
    *direct* keys with distinct positions. Exact (integer arithmetic).

    Args:
        positives: Weights that decode to one.
        negatives: Weights that decode to zero.
        ones: Message bits that are one.
        zeros: Message bits that are zero.
        successes: The number of matches observed.
    """
    size = positives + negatives
    if ones + zeros > size:
        raise ValueError(f"{ones + zeros} distinct positions do not exist among {size}")
    if successes <= 0:
        return 0.0
    favourable = 0
    for hits in range(max(0, ones - negatives), min(ones, positives) + 1):
        negatives_left = negatives - (ones - hits)
        drawn = math.comb(positives, hits) * math.comb(negatives, ones - hits)
        tail = sum(
            math.comb(negatives_left, more) * math.comb(positives - hits, zeros - more)
            for more in range(max(0, successes - hits), zeros + 1)
        )
        favourable += drawn * tail
    return min(0.0, log10_ratio(favourable, math.comb(size, ones) * math.comb(size - ones, zeros)))


def sign_flip_test(margins: Float64Array) -> SignFlip:
    """P(sum of margins at least as large | their sizes), every sign a fair coin.

    Args:
        margins: Signed margins, shape (T,): positive where the bit is right. Zeros (erasures) carry no information
            and no weight.

    Returns:
        The estimate and the bound; both 0 (probability one) where no margin is non-zero.
    """
    scale = float(np.max(np.abs(margins), initial=0.0))
    if scale == 0.0 or not math.isfinite(scale):
        return SignFlip(0.0, 0.0)
    sizes = np.abs(margins) / scale
    sizes = sizes[sizes > 0]
    observed = float(np.sum(margins / scale))
    if np.all(margins >= 0):
        exact = -sizes.size * LOG10_2
        return SignFlip(exact, exact)
    if observed <= 0:
        return SignFlip(_log10_upper(_lugannani_rice(sizes, observed)), 0.0)
    tilt = _saddle_point(sizes, observed)
    bound = min(0.0, (_cumulant(sizes, tilt) - tilt * observed) / _LN10)
    estimate = min(_log10_upper(_lugannani_rice(sizes, observed)), bound)
    return SignFlip(estimate, bound)


def log10_union(log10_p: float, n_hypotheses: int) -> float:
    """Bonferroni: log10 of ``min(1, p * n_hypotheses)``."""
    return min(0.0, log10_p + math.log10(n_hypotheses))


def _cumulant(sizes: Float64Array, tilt: float) -> float:
    """K(tilt) = sum log cosh(tilt * sizes), without overflow."""
    x = tilt * sizes
    return float(np.sum(x + np.log1p(np.exp(-2 * x)))) - sizes.size * math.log(2)


def _saddle_point(sizes: Float64Array, observed: float) -> float:
    """The tilt at which the tilted mean, sum sizes * tanh(tilt * sizes), equals a positive ``observed``."""
    low, high = 0.0, 1.0
    while float(np.sum(sizes * np.tanh(high * sizes))) < observed and high < 1e12:
        high *= 2
    for _ in range(200):
        middle = 0.5 * (low + high)
        if float(np.sum(sizes * np.tanh(middle * sizes))) < observed:
            low = middle
        else:
            high = middle
        if high - low <= 1e-14 * high:
            break
    return 0.5 * (low + high)


def _lugannani_rice(sizes: Float64Array, observed: float) -> float:
    """Natural logarithm of the saddle-point estimate of P(S >= observed)."""
    if observed < 0:
        below = _lugannani_rice(sizes, -observed)
        return math.log1p(-math.exp(below)) if below < -1e-300 else -math.inf
    deviation = math.sqrt(float(np.sum(sizes**2)))
    if observed < 1e-4 * deviation:
        # The formula is 0/0 at the centre; there the normal law is exact to its first order.
        return math.log(0.5 * math.erfc(observed / deviation / math.sqrt(2)))
    tilt = _saddle_point(sizes, observed)
    root = math.sqrt(2 * max(tilt * observed - _cumulant(sizes, tilt), 1e-300))
    x = tilt * sizes
    sech2 = 4 * np.exp(-2 * x) / (1 + np.exp(-2 * x)) ** 2
    spread = tilt * math.sqrt(float(np.sum(sizes**2 * sech2)))
    if spread <= 0:
        return -0.5 * root**2
    correction = _mills_ratio(root) + 1 / spread - 1 / root
    return -0.5 * root**2 - 0.5 * math.log(2 * math.pi) + math.log(max(correction, 1e-300))


def _mills_ratio(x: float) -> float:
    """Normal tail over normal density at ``x >= 0``."""
    if x < 25:
        return math.sqrt(math.pi / 2) * math.erfc(x / math.sqrt(2)) * math.exp(0.5 * x * x)
    inverse = 1 / (x * x)
    return (1 - inverse * (1 - 3 * inverse * (1 - 5 * inverse))) / x


def _log10_upper(natural: float) -> float:
    return min(0.0, natural / _LN10)


def mean_interval(samples: Float64Array) -> tuple[float, float]:
    """The 95 % confidence interval of a mean: Student's t, for samples that are about normal.

    Args:
        samples: Shape (n,), n > 1.

    Raises:
        ValueError: There are fewer than two samples, which say nothing of their spread.
    """
    if samples.size < 2:
        raise ValueError(f"an interval takes two samples or more, found {samples.size}")
    mean, spread = float(samples.mean()), float(samples.std(ddof=1))
    half = student_t_quantile(0.95, samples.size - 1) * spread / math.sqrt(samples.size)
    return mean - half, mean + half


def student_t_quantile(confidence: float, freedom: int) -> float:
    """The t for which ``P(-t <= T <= t)`` is ``confidence``, in (0, 1); T is Student's with ``freedom`` degrees."""
    low, high = 0.0, 1.0
    while _student_t_inside(high, freedom) < confidence:
        low, high = high, 2 * high
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _student_t_inside(middle, freedom) < confidence else (low, middle)
    return high


def _student_t_inside(t: float, freedom: int) -> float:
    """P(-t <= T <= t), by the finite sums for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for count in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * count / (count + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
