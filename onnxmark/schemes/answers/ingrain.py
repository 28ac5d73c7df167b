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
from onnxmark.schemes.evidence import Evidence, Test, no_evidence
from onnxmark.schemes.scheme import Answers, Reads
from onnxmark.statistics import log10_binomial_tail, sign_flip_test

Statistic = Literal["z", "sgn", "arg"]
UNIT: Final = "root mean square of the differences from the references"
_PAIRS: Final = "pairs"
_EXPECTED: Final = "expected"


@dataclass(frozen=True, slots=True)
class IngrainOptions:
    """How an ingrain key is made.

    Args:
        carriers: Number of carriers n; fewer than 1,000 were measured to be too few for small students.
        statistic: What the verdict rests on.
    """

    carriers: int = 1000
    statistic: Statistic = "z"

    def __post_init__(self) -> None:
        if self.carriers < 1:
            raise ValueError(f"an ingrain key has at least one carrier, not {self.carriers}")


class IngrainScheme:
    """Carriers near the decision boundary, one coin each."""

    name: ClassVar[str] = "ingrain"
    summary: ClassVar[str] = "coins on boundary inputs, which a distilled student answers as well (our reconstruction)"
    reads: ClassVar[Reads] = Reads.ANSWERS
    signs_tested: ClassVar[int] = 1
    options: ClassVar[type[IngrainOptions]] = IngrainOptions

    def make_key(self, pool: AnyArray, references: Sequence[Float64Array], options: IngrainOptions) -> Key:
        """A fresh key with the carriers of a pool that lie nearest to a decision boundary.

        The first reference chooses carriers and pairs; the mean of all is what an unmarked network answers. None of
        them has seen the key, which is drawn afterwards.

        Args:
            pool: Inputs nobody trained on, shape (N, ...), as models take them.
            references: Logits or log-probabilities of unmarked networks for the pool, each of shape (N, classes).
            options: See :class:`IngrainOptions`.

        Raises:
            KeyFileError: The pool is too small, or the references do not fit it.
        """
        check_bits(options.carriers)
        _check(pool, references, options.carriers)
        pairs, margins = top_pairs(references[0])
        chosen = np.sort(np.argsort(margins, kind="stable")[: options.carriers])
        expected = np.mean([log_ratios(logits[chosen], pairs[chosen]) for logits in references], axis=0)
        seed, salt = draw_secret_parts()
        return Key(
            scheme=self.name,
            seed=seed,
            salt=salt,
            payload=np.zeros(options.carriers, dtype=np.uint8),
            carriers=(),
            parameters={"statistic": options.statistic},
            arrays={
                **stored_inputs(pool[chosen]),
                _PAIRS: pairs[chosen].astype(np.int32),
                _EXPECTED: expected.astype(np.float32),
            },
        )

    def facts(self, key: Key) -> dict[str, str]:
        """See :class:`onnxmark.schemes.scheme.Scheme`."""
        return {"carriers": f"{key.n_bits:,} inputs between two classes", "statistic": _statistic(key)}

    def inputs(self, key: Key, given: AnyArray | None) -> AnyArray:
        """See :class:`onnxmark.schemes.scheme.AnswerScheme`."""
        return inputs_of(key, given)

    def labels(self, key: Key) -> Int64Array:
        """The classes to train the carriers with, shape (n,): of each pair the one that the coin names."""
        pairs, _ = _stored(key)
        return np.where(key.message == 1, pairs[:, 0], pairs[:, 1]).astype(np.int64)

    def extract(self, key: Key, answers: Answers) -> Evidence:
        """See :class:`onnxmark.schemes.scheme.AnswerScheme`."""
        pairs, expected = _stored(key)
        signs = np.where(key.message == 1, 1.0, -1.0)
        sides = _sides(answers.decisions, pairs) * signs
        if answers.scores is None:
            note = "the model gives classes only, so the verdict rests on them whatever the key's statistic is"
            return _evidence(sides, (_arg(sides),), "decisions", (_agreement(sides), note))
        if answers.scores.shape[1] <= pairs.max():
            n_classes = answers.scores.shape[1]
            return no_evidence(key.n_bits, f"the model has {n_classes} classes, the key knows more", symbol="carrier")
        if not np.isfinite(answers.scores).all():
            return no_evidence(key.n_bits, "the model's answers are not all finite", symbol="carrier")
        differences = (log_ratios(answers.scores, pairs) - expected) * signs
        tests = {"z": _z(differences), "sgn": _sgn(differences), "arg": _arg(sides)}
        chosen = _statistic(key)
        ordered = (tests[chosen], *(test for name, test in tests.items() if name != chosen))
        read = sides if chosen == "arg" else differences
        return _evidence(read, ordered, UNIT if chosen != "arg" else "decisions", (_agreement(sides),))


def top_pairs(logits: Float64Array) -> tuple[Int64Array, Float64Array]:
    """The two likeliest classes of each input, shape (N, 2), and by how much the first leads, shape (N,)."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, :2]
    return order.astype(np.int64), log_ratios(logits, order.astype(np.int64))


def log_ratios(scores: Float64Array, pairs: NDArray[np.integer]) -> Float64Array:
    """Logarithm of the ratio of the probabilities of each pair's classes, shape (n,)."""
    rows = np.arange(len(pairs))
    ratios: Float64Array = scores[rows, pairs[:, 0]].astype(np.float64) - scores[rows, pairs[:, 1]]
    return ratios


def _check(pool: AnyArray, references: Sequence[Float64Array], n_carriers: int) -> None:
    if not references:
        raise KeyFileError("an ingrain key needs at least one unmarked reference network; give --reference")
    if len(pool) < n_carriers:
        raise KeyFileError(f"the pool holds {len(pool):,} inputs and the key asks for {n_carriers:,} carriers")
    shapes = {logits.shape for logits in references}
    if len(shapes) != 1 or (shape := shapes.pop())[0] != len(pool) or len(shape) != 2 or shape[1] < 2:
        raise KeyFileError("references must answer every input of the pool with scores of the same two classes or more")
    if not all(np.isfinite(logits).all() for logits in references):
        raise KeyFileError("a reference's answers are not all finite")


def _stored(key: Key) -> tuple[Int64Array, Float64Array]:
    pairs, expected = key.arrays.get(_PAIRS), key.arrays.get(_EXPECTED)
    if pairs is None or expected is None:
        raise KeyFileError("the key holds no pairs of classes or no expected answers")
    n = key.n_bits
    if pairs.shape != (n, 2) or expected.shape != (n,) or pairs.dtype.kind not in "iu" or expected.dtype.kind != "f":
        raise KeyFileError(f"the key has {n:,} carriers and pairs or expected answers of another form")
    if pairs.min() < 0 or np.any(pairs[:, 0] == pairs[:, 1]) or not np.isfinite(expected).all():
        raise KeyFileError("the key's pairs of classes or expected answers make no sense")
    return pairs.astype(np.int64), expected.astype(np.float64)


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


def _agreement(sides: Float64Array) -> str:
    within, right = int(np.sum(sides != 0)), int(np.sum(sides > 0))
    return f"The answer is one of the pair for {within:,} of {sides.size:,} carriers, the coin's class for {right:,}."


def _z(differences: Float64Array) -> Test:
    flip = sign_flip_test(differences)
    return Test("Z (sign-flip)", flip.log10_bound, "exact" if flip.log10_bound == flip.log10_estimate else "bound")


def _sgn(differences: Float64Array) -> Test:
    n_told = int(np.sum(differences != 0))
    return Test("SGN (fair coins)", log10_binomial_tail(int(np.sum(differences > 0)), n_told), "exact")


def _arg(sides: Float64Array) -> Test:
    return Test("ARG (fair coins)", log10_binomial_tail(int(np.sum(sides > 0)), int(np.sum(sides != 0))), "exact")


def _evidence(read: Float64Array, tests: tuple[Test, ...], unit: str, notes: tuple[str, ...]) -> Evidence:
    scale = float(np.sqrt(np.mean(read**2)))
    if scale == 0:
        return no_evidence(read.size, "the answers tell nothing of any carrier", symbol="carrier")
    return Evidence(
        margins=read / scale,
        n_errors=int(np.sum(read <= 0)),
        n_erasures=int(np.sum(read == 0)),
        log10_p=tests[0].log10_p,
        tests=tests,
        symbol="carrier",
        unit=unit,
        notes=notes,
    )
