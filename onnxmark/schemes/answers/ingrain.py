"""Ingrain: inputs on the decision boundary whose side is a coin of the key, read back from any model's answers.

Yang, Dang, Chang: Effectiveness of Distillation Attack and Countermeasure on Neural Network Watermarking (2019, arXiv
1906.06046) train a mark into the answers on ordinary inputs, so that it passes to a student. What is asked here is our
reconstruction: *carriers* are real inputs between two classes, both told by reference networks before there is a key,
and the key tosses one fair coin for each. Nobody who does not know the coins can agree with them more often than a coin
does, whatever the model, so every statistic below has an exact null.

Three statistics can be chosen, when the key is made and not after looking:

* ``z``: the log-ratio of the pair's classes against the references' mean, with the coin's sign: the sign-flip test on
  those differences, the default and the most powerful;
* ``sgn``: how many of these differences have the coin's sign;
* ``arg``: of the carriers whose answer is in the pair, how many have the coin's class. It needs labels only.

Carriers that look alike may share a coin (:mod:`onnxmark.schemes.answers.neighbourhoods`); then their differences, and
their votes, are added up first. That is what reaches small students who were taught by labels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import AnyArray, Float64Array, Int64Array
from onnxmark.errors import KeyFileError
from onnxmark.keys import Key, check_bits, draw_secret_parts
from onnxmark.schemes.answers.inputs import inputs_of, stored_inputs
from onnxmark.schemes.answers.neighbourhoods import neighbourhoods
from onnxmark.schemes.evidence import Evidence, Test, no_evidence
from onnxmark.schemes.scheme import Answers, Reads
from onnxmark.statistics import log10_binomial_tail, sign_flip_test

Statistic = Literal["z", "sgn", "arg"]
UNIT: Final = "root mean square of the differences from the references"
_PAIRS: Final = "pairs"
_EXPECTED: Final = "expected"
_COINS: Final = "coins"


@dataclass(frozen=True, slots=True)
class IngrainOptions:
    """How an ingrain key is made.

    Args:
        carriers: Number of carriers n. 1,000 with a coin each were measured to be enough for students taught by soft
            answers; for small ones taught by labels alone take 2,000 that share coins by 8.
        statistic: What the verdict rests on.
        shared: Carriers that may share a coin, at most.
        agreeing: References that must name the same pair of classes for a carrier.
    """

    carriers: int = 1000
    statistic: Statistic = "z"
    shared: int = 1
    agreeing: int = 1

    def __post_init__(self) -> None:
        if min(self.carriers, self.shared, self.agreeing) < 1:
            raise ValueError(
                f"carriers, shared and agreeing are at least 1, not {self.carriers}, {self.shared} and {self.agreeing}"
            )


class IngrainScheme:
    """Carriers near the decision boundary, one coin each."""

    name: ClassVar[str] = "ingrain"
    summary: ClassVar[str] = "coins on boundary inputs, which a distilled student answers as well (our reconstruction)"
    reads: ClassVar[Reads] = Reads.ANSWERS
    signs_tested: ClassVar[int] = 1
    options: ClassVar[type[IngrainOptions]] = IngrainOptions

    def make_key(self, pool: AnyArray, references: Sequence[Float64Array], options: IngrainOptions) -> Key:
        """A fresh key with the carriers of a pool that lie nearest to a decision boundary.

        The first references choose carriers and pairs; the mean of all is what an unmarked network answers. None of
        them has seen the key, which is drawn afterwards.

        Args:
            pool: Inputs nobody trained on, shape (N, ...), as models take them.
            references: Logits or log-probabilities of unmarked networks for the pool, each of shape (N, classes).
            options: See :class:`IngrainOptions`.

        Raises:
            KeyFileError: The pool is too small, or the references do not fit it.
        """
        _check(pool, references, options)
        chosen, pairs = near_boundary(references[: options.agreeing], options.carriers)
        expected = np.mean([log_ratios(logits[chosen], pairs) for logits in references], axis=0)
        kept = stored_inputs(pool[chosen])
        coins = neighbourhoods(pool[chosen], pairs, options.shared)
        n_coins = int(coins.max()) + 1
        check_bits(n_coins)
        seed, salt = draw_secret_parts()
        return Key(
            scheme=self.name,
            seed=seed,
            salt=salt,
            payload=np.zeros(n_coins, dtype=np.uint8),
            carriers=(),
            parameters={"statistic": options.statistic},
            arrays={
                **kept,
                _PAIRS: pairs.astype(np.int32),
                _EXPECTED: expected.astype(np.float32),
                _COINS: coins.astype(np.int32),
            },
        )

    def facts(self, key: Key) -> dict[str, str]:
        """See :class:`onnxmark.schemes.scheme.Scheme`."""
        stored = _stored(key)
        return {
            "carriers": f"{len(stored.pairs):,} inputs between two classes",
            "coins": f"{key.n_bits:,}",
            "statistic": _statistic(key),
        }

    def inputs(self, key: Key, given: AnyArray | None) -> AnyArray:
        """See :class:`onnxmark.schemes.scheme.AnswerScheme`."""
        return inputs_of(key, len(_stored(key).pairs), given)

    def labels(self, key: Key) -> Int64Array:
        """The classes to train the carriers with, shape (n,): of each pair the one that its coin names."""
        stored = _stored(key)
        return np.where(key.message[stored.coins] == 1, stored.pairs[:, 0], stored.pairs[:, 1]).astype(np.int64)

    def extract(self, key: Key, answers: Answers) -> Evidence:
        """See :class:`onnxmark.schemes.scheme.AnswerScheme`."""
        stored, n = _stored(key), key.n_bits
        symbol = "carrier" if n == len(stored.pairs) else "coin"
        signs = np.where(key.message == 1, 1.0, -1.0)
        sides = _sides(answers.decisions, stored.pairs) * signs[stored.coins]
        votes = _sums(sides, stored.coins, n)
        if answers.scores is None:
            note = "the model gives classes only, so the verdict rests on them whatever the key's statistic is"
            return _evidence(votes, (_arg(votes),), "votes", (_agreement(sides), note), symbol)
        if answers.scores.shape[1] <= stored.pairs.max():
            n_classes = answers.scores.shape[1]
            return no_evidence(n, f"the model has {n_classes} classes, the key knows more", symbol=symbol)
        if not np.isfinite(answers.scores).all():
            return no_evidence(n, "the model's answers are not all finite", symbol=symbol)
        leaning = log_ratios(answers.scores, stored.pairs) - stored.expected
        differences = _sums(leaning, stored.coins, n) * signs
        tests = {"z": _z(differences), "sgn": _sgn(differences), "arg": _arg(votes)}
        chosen = _statistic(key)
        ordered = (tests[chosen], *(test for name, test in tests.items() if name != chosen))
        read, unit = (votes, "votes") if chosen == "arg" else (differences, UNIT)
        return _evidence(read, ordered, unit, (_agreement(sides),), symbol)


def near_boundary(references: Sequence[Float64Array], count: int) -> tuple[Int64Array, Int64Array]:
    """The inputs between whose two likeliest classes references waver most, and these classes.

    Args:
        references: Logits or log-probabilities, each of shape (N, classes); all must name the same two classes.
        count: How many.

    Returns:
        Their indices in ascending order, shape (count,), and the pairs, shape (count, 2), the smaller class first.

    Raises:
        KeyFileError: Fewer inputs qualify.
    """
    pairs = [np.sort(np.argsort(-logits, axis=1, kind="stable")[:, :2], axis=1) for logits in references]
    agreed = np.flatnonzero(np.all([np.all(one == pairs[0], axis=1) for one in pairs], axis=0))
    if agreed.size < count:
        raise KeyFileError(f"references agree on the classes of {agreed.size:,} inputs and {count:,} are asked for")
    lead = np.abs(np.mean([log_ratios(logits[agreed], pairs[0][agreed]) for logits in references], axis=0))
    chosen = np.sort(agreed[np.argsort(lead, kind="stable")[:count]])
    return chosen.astype(np.int64), pairs[0][chosen].astype(np.int64)


def log_ratios(scores: Float64Array, pairs: NDArray[np.integer]) -> Float64Array:
    """Logarithm of the ratio of the probabilities of each pair's classes, shape (n,)."""
    rows = np.arange(len(pairs))
    ratios: Float64Array = scores[rows, pairs[:, 0]].astype(np.float64) - scores[rows, pairs[:, 1]]
    return ratios


def _check(pool: AnyArray, references: Sequence[Float64Array], options: IngrainOptions) -> None:
    if not references:
        raise KeyFileError("an ingrain key needs at least one unmarked reference network; give --reference")
    if len(references) < options.agreeing:
        raise KeyFileError(f"there are {len(references)} references and {options.agreeing} have to agree; give more")
    if len(pool) < options.carriers:
        raise KeyFileError(f"the pool holds {len(pool):,} inputs and the key asks for {options.carriers:,} carriers")
    shapes = {logits.shape for logits in references}
    if len(shapes) != 1 or (shape := shapes.pop())[0] != len(pool) or len(shape) != 2 or shape[1] < 2:
        raise KeyFileError("references must answer every input of the pool with scores of the same two classes or more")
    if not all(np.isfinite(logits).all() for logits in references):
        raise KeyFileError("a reference's answers are not all finite")


@dataclass(frozen=True, slots=True, eq=False)
class _Stored:
    """What a key holds of its carriers: pairs (n, 2), expected log-ratios (n,), and the coin of each (n,)."""

    pairs: Int64Array
    expected: Float64Array
    coins: Int64Array


def _stored(key: Key) -> _Stored:
    pairs, expected, coins = (key.arrays.get(name) for name in (_PAIRS, _EXPECTED, _COINS))
    if pairs is None or expected is None or coins is None:
        raise KeyFileError("the key lacks pairs of classes, expected answers, or the coins of its carriers")
    n = len(pairs)
    kinds = (pairs.dtype.kind in "iu", expected.dtype.kind == "f", coins.dtype.kind in "iu")
    if (pairs.shape, expected.shape, coins.shape) != ((n, 2), (n,), (n,)) or n == 0 or not all(kinds):
        raise KeyFileError(f"the key has {n:,} carriers and pairs, expected answers or coins of another form")
    sensible = pairs.min() >= 0 and np.all(pairs[:, 0] < pairs[:, 1]) and np.isfinite(expected).all()
    if not sensible or not np.array_equal(np.unique(coins), np.arange(key.n_bits)):
        raise KeyFileError("the key's pairs of classes, expected answers or coins make no sense")
    return _Stored(pairs.astype(np.int64), expected.astype(np.float64), coins.astype(np.int64))


def _statistic(key: Key) -> Statistic:
    found = key.parameters.get("statistic")
    for known in get_args(Statistic):
        if found == known:
            return known  # type: ignore[no-any-return]
    raise KeyFileError(f"unknown statistic {found!r}; there are {', '.join(get_args(Statistic))}")


def _sides(decisions: Int64Array, pairs: Int64Array) -> Float64Array:
    """+1 where the first class of the pair was answered, -1 for the second, 0 for any other."""
    sides: Float64Array = (decisions == pairs[:, 0]).astype(np.float64) - (decisions == pairs[:, 1])
    return sides


def _sums(values: Float64Array, coins: Int64Array, n: int) -> Float64Array:
    """Values of carriers added up by coin, shape (n,)."""
    return np.bincount(coins, weights=values, minlength=n).astype(np.float64, copy=False)


def _agreement(sides: Float64Array) -> str:
    within, right = int(np.sum(sides != 0)), int(np.sum(sides > 0))
    return f"The answer is one of the pair for {within:,} of {sides.size:,} carriers, the coin's class for {right:,}."


def _z(differences: Float64Array) -> Test:
    flip = sign_flip_test(differences)
    return Test("Z (sign-flip)", flip.log10_bound, "exact" if flip.log10_bound == flip.log10_estimate else "bound")


def _sgn(differences: Float64Array) -> Test:
    n_told = int(np.sum(differences != 0))
    return Test("SGN (fair coins)", log10_binomial_tail(int(np.sum(differences > 0)), n_told), "exact")


def _arg(votes: Float64Array) -> Test:
    if np.abs(votes).max(initial=0) <= 1:
        right = int(np.sum(votes > 0))
        return Test("ARG (fair coins)", log10_binomial_tail(right, int(np.sum(votes != 0))), "exact")
    flip = sign_flip_test(votes)
    return Test("ARG (sign-flip)", flip.log10_bound, "exact" if flip.log10_bound == flip.log10_estimate else "bound")


def _evidence(read: Float64Array, tests: tuple[Test, ...], unit: str, notes: tuple[str, ...], symbol: str) -> Evidence:
    scale = float(np.sqrt(np.mean(read**2)))
    if scale == 0:
        return no_evidence(read.size, "the answers tell nothing of any carrier", symbol=symbol)
    return Evidence(
        margins=read / scale,
        n_errors=int(np.sum(read <= 0)),
        n_erasures=int(np.sum(read == 0)),
        log10_p=tests[0].log10_p,
        tests=tests,
        symbol=symbol,
        unit=unit,
        notes=notes,
    )
