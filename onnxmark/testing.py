"""What any scheme owes the audit, as checks that its own tests can run: also those of a third party's scheme.

    import pytest
    from onnxmark.testing import DUTIES, WeightSubject

    SUBJECT = WeightSubject(MyScheme(), layers, payload)

    @pytest.mark.parametrize("duty", DUTIES, ids=lambda duty: duty.__name__)
    def test_my_scheme(duty):
        duty(SUBJECT)

A *subject* is a scheme with something to mark: layers with weights, layers with widths, or a model that answers. Every
duty raises :class:`DutyBroken` with what was expected and found. Keys are drawn afresh, so a p-value that is too good
shows after a few runs at the latest; the margin for chance is one in a million a run.
"""

from __future__ import annotations

import math
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from onnxmark.arrays import BitArray, Float32Array
from onnxmark.keys import Key, Secret, load_key, save_key
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.scheme import Answers, AnswerScheme, EmbeddingMeans, Layer, Scheme, WeightScheme, WidthScheme
from onnxmark.statistics import log10_binomial_tail
from onnxmark.verdict import Policy, Verdict, judge
from onnxmark.weights import WeightTensor

N_STRANGERS: Final = 300
"""Keys that a model was not marked with, in :func:`strangers_read_fairly`; each costs a key derivation of .1 s."""
_CHANCE: Final = -6.0


class DutyBroken(AssertionError):
    """A scheme does not do what an audit relies on."""


class Subject(Protocol):
    """A scheme and something that carries its marks."""

    @property
    def scheme(self) -> Scheme:
        """The scheme."""
        ...

    def fresh_key(self) -> Key:
        """A key nobody has used."""
        ...

    def marked(self, key: Key) -> Any:
        """What is read in a model marked with a key."""
        ...

    def unmarked(self) -> Any:
        """What is read in a model that is not marked."""
        ...

    def broken(self) -> Iterator[tuple[str, Any]]:
        """What is read in models that can bear no evidence, each with a name."""
        ...

    def read(self, key: Key, seen: Any) -> Evidence:
        """The evidence in what was read."""
        ...


@dataclass(frozen=True, eq=False)
class WeightSubject:
    """A scheme that reads weights.

    Args:
        scheme: The scheme.
        layers: Layers with unmarked weights.
        payload: A message that fits them.
        options: For ``make_key``; None takes the defaults.
        margin: To embed with; None takes the default.
    """

    scheme: WeightScheme
    layers: tuple[Layer, ...]
    payload: BitArray
    options: Any = None
    margin: float | None = None

    def fresh_key(self) -> Key:
        """See :class:`Subject`."""
        return self.scheme.make_key(self.layers, self.payload, self.options or self.scheme.options())

    def marked(self, key: Key) -> tuple[WeightTensor, ...]:
        """See :class:`Subject`."""
        (reading, *_) = self.scheme.readings(key, tuple(layer.shape for layer in self.unmarked()))
        return self.scheme.embed(key, self.unmarked(), reading, EmbeddingMeans(self.margin)).layers

    def unmarked(self) -> tuple[WeightTensor, ...]:
        """See :class:`Subject`."""
        return tuple(layer.weights for layer in self.layers if layer.weights is not None)

    def broken(self) -> Iterator[tuple[str, tuple[WeightTensor, ...]]]:
        """See :class:`Subject`."""
        for name, value in (("zeros", 0.0), ("a constant", 0.5), ("NaN", np.nan), ("infinities", np.inf)):
            yield name, tuple(layer.with_values(_filled(layer, value)) for layer in self.unmarked())

    def read(self, key: Key, seen: tuple[WeightTensor, ...]) -> Evidence:
        """See :class:`Subject`."""
        (reading, *_) = self.scheme.readings(key, tuple(layer.shape for layer in seen))
        return self.scheme.extract(key, seen, reading)


@dataclass(frozen=True, eq=False)
class WidthSubject:
    """A scheme that reads widths.

    Args:
        scheme: The scheme.
        layers: Layers whose number of channels can be changed.
        options: For ``make_key``; None takes the defaults.
    """

    scheme: WidthScheme
    layers: tuple[Layer, ...]
    options: Any = None

    def fresh_key(self) -> Key:
        """See :class:`Subject`."""
        return self.scheme.make_key(self.layers, None, self.options or self.scheme.options())

    def marked(self, key: Key) -> tuple[int | None, ...]:
        """See :class:`Subject`."""
        return self.scheme.widths(key)

    def unmarked(self) -> tuple[int | None, ...]:
        """See :class:`Subject`: pruned by somebody who knows of no key."""
        return tuple(round(0.7 * layer.carrier.shape[0]) for layer in self.layers)

    def broken(self) -> Iterator[tuple[str, tuple[int | None, ...]]]:
        """See :class:`Subject`."""
        yield "no layer found", (None,) * len(self.layers)
        yield "never pruned", tuple(layer.carrier.shape[0] for layer in self.layers)

    def read(self, key: Key, seen: tuple[int | None, ...]) -> Evidence:
        """See :class:`Subject`."""
        return self.scheme.extract(key, seen)


@dataclass(frozen=True, eq=False)
class AnswerSubject:
    """A scheme that asks.

    Args:
        scheme: The scheme.
        make: Gives a fresh key.
        answer: What a model marked with a key answers.
        stranger: What an unmarked model answers.
    """

    scheme: AnswerScheme
    make: Callable[[], Key]
    answer: Callable[[Key], Answers]
    stranger: Answers

    def fresh_key(self) -> Key:
        """See :class:`Subject`."""
        return self.make()

    def marked(self, key: Key) -> Answers:
        """See :class:`Subject`."""
        return self.answer(key)

    def unmarked(self) -> Answers:
        """See :class:`Subject`."""
        return self.stranger

    def broken(self) -> Iterator[tuple[str, Answers]]:
        """See :class:`Subject`."""
        if self.stranger.scores is not None:
            scores = np.full_like(self.stranger.scores, np.nan)
            yield "NaN", Answers(np.zeros(len(scores), dtype=np.int64), scores)
            yield "always the same", Answers(np.zeros(len(scores), dtype=np.int64), np.zeros_like(scores))

    def read(self, key: Key, seen: Answers) -> Evidence:
        """See :class:`Subject`."""
        return self.scheme.extract(key, seen)


def it_is_described(subject: Subject) -> None:
    """It has a name, a summary of one line, and options with defaults that cannot be changed."""
    scheme = subject.scheme
    _require(bool(scheme.name) and scheme.name == scheme.name.lower(), f"a lower-case name, found {scheme.name!r}")
    _require(bool(scheme.summary) and "\n" not in scheme.summary, "a summary of one line")
    options = scheme.options()
    for field in fields(options):
        try:
            setattr(options, field.name, getattr(options, field.name))
        except FrozenInstanceError:
            continue
        raise DutyBroken(f"options must be frozen; {field.name!r} can be set")


def a_mark_is_found(subject: Subject) -> None:
    """A marked model reads without an error, at a probability that is a match."""
    key = subject.fresh_key()
    evidence = subject.read(key, subject.marked(key))
    _require(evidence.degenerate is None, f"evidence in a marked model, found {evidence.degenerate!r}")
    _require(evidence.n_errors == 0, f"no wrong symbol in a marked model, found {evidence.n_errors}")
    _require(evidence.n_bit_errors == 0, f"no wrong bit in a marked model, found {evidence.n_bit_errors}")
    verdict = judge(evidence, subject.scheme.signs_tested, Policy()).verdict
    _require(verdict is Verdict.MATCH, f"a match in a marked model, found {verdict} at 10^{evidence.log10_p:.1f}")


def evidence_is_consistent(subject: Subject) -> None:
    """Counts, margins and probabilities of a reading say the same."""
    key = subject.fresh_key()
    for seen in (subject.marked(key), subject.unmarked()):
        evidence = subject.read(key, seen)
        wrong = int(np.sum(evidence.margins <= 0))
        _require(bool(np.isfinite(evidence.margins).all()), "finite margins")
        _require(wrong == evidence.n_errors, f"{wrong} margins are not positive, {evidence.n_errors} errors counted")
        _require(0 <= evidence.n_erasures <= evidence.n_errors, "no more erasures than errors")
        _require(0 <= evidence.n_bit_errors <= evidence.n_bits, "no more wrong bits than bits")
        _require(evidence.log10_p <= 0, f"a probability of at most 1, found 10^{evidence.log10_p}")
        if evidence.tests:
            first = evidence.tests[0]
            _require(first.log10_p == evidence.log10_p, "the test behind the verdict to come first")
            _require(first.kind in ("exact", "bound"), f"a verdict to rest on no {first.kind}")


def reading_is_pure(subject: Subject) -> None:
    """Reading twice gives the same and changes nothing."""
    key = subject.fresh_key()
    seen = subject.marked(key)
    before = pickle.dumps(seen)
    first, second = subject.read(key, seen), subject.read(key, seen)
    _require(np.array_equal(first.margins, second.margins), "the same margins twice")
    _require(first.log10_p == second.log10_p, "the same probability twice")
    _require(pickle.dumps(seen) == before, "what was read to be left as it was")


def keys_survive_their_file(subject: Subject) -> None:
    """A key read back from its file reads the same."""
    key = subject.fresh_key()
    seen = subject.marked(key)
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "key.npy"
        saved = save_key(key, path)
        again = load_key(path)
    _require(isinstance(again, Key) and again.commitment == saved.commitment, "the same key from its file")
    assert isinstance(again, Key)
    _require(np.array_equal(subject.read(again, seen).margins, subject.read(key, seen).margins), "the same reading")


def secrets_stay_secret(subject: Subject) -> None:
    """Nothing that may be told of a key depends on its seed: only what everybody may know goes into reports."""
    key = subject.fresh_key()
    other = replace(key, seed=Secret(bytes(32)))
    told, otherwise = subject.scheme.facts(key), subject.scheme.facts(other)
    _require(told == otherwise, f"facts that do not depend on the seed, found {told} and {otherwise}")
    _require(key.seed.reveal().hex() not in repr(told) + repr(key), "no seed in facts or repr")


def another_key_is_not_found(subject: Subject) -> None:
    """A model marked with one key does not match another."""
    key, other = subject.fresh_key(), subject.fresh_key()
    verdict = judge(subject.read(other, subject.marked(key)), subject.scheme.signs_tested, Policy()).verdict
    _require(verdict is not Verdict.MATCH, f"no match with another key, found {verdict}")


def what_bears_no_evidence_gives_none(subject: Subject) -> None:
    """Zeros, constants and values that are not finite never match, and are no errors either."""
    key = subject.fresh_key()
    for name, seen in subject.broken():
        with np.errstate(all="ignore"):
            evidence = subject.read(key, seen)
        verdict = judge(evidence, subject.scheme.signs_tested, Policy()).verdict
        _require(verdict is not Verdict.MATCH, f"no match for {name}, found {verdict}")


def strangers_read_fairly(subject: Subject, n_keys: int = N_STRANGERS) -> None:
    """Of keys that know nothing of a model, no more find anything at a level than the level says."""
    seen = subject.unmarked()
    found = [subject.read(subject.fresh_key(), seen).log10_p for _ in range(n_keys)]
    for sides, level in ((10, -1.0), (100, -2.0)):
        # A p-value counts every sign that the scheme tests.
        hits = int(sum(value + math.log10(subject.scheme.signs_tested) <= level for value in found))
        chance = log10_binomial_tail(hits, n_keys, sides)
        _require(chance > _CHANCE, f"about 1 in {sides} of {n_keys} strangers below 10^{level:g}, found {hits}")


DUTIES: Final[Sequence[Callable[[Any], None]]] = (
    it_is_described,
    a_mark_is_found,
    evidence_is_consistent,
    reading_is_pure,
    keys_survive_their_file,
    secrets_stay_secret,
    another_key_is_not_found,
    what_bears_no_evidence_gives_none,
    strangers_read_fairly,
)
"""All of them, for a parametrised test."""


def _require(kept: bool, expected: str) -> None:
    if not kept:
        raise DutyBroken(f"expected {expected}")


def _filled(layer: WeightTensor, value: float) -> Float32Array:
    return np.full(layer.shape, value, dtype=np.float32)
