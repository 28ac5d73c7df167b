"""Plain trigger sets: inputs of the owner's with labels that a model can only have learnt.

Adi et al.: Turning Your Weakness Into a Strength: Watermarking Deep Neural Networks by Backdooring (USENIX Security
2018, arXiv 1802.04633). Where the key draws the labels, each is any of the classes with the same chance whatever the
model answers, and the number of hits has an exact null. Labels that the owner chose have none: a model that answers as
everybody expects, or gives the one class all triggers bear, agrees with them as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from onnxmark.arrays import AnyArray, Int64Array
from onnxmark.errors import KeyFileError
from onnxmark.keys import Key, check_bits, draw_secret_parts
from onnxmark.keys.derivation import stream
from onnxmark.schemes.answers.inputs import inputs_of, stored_inputs
from onnxmark.schemes.evidence import Evidence, Test, no_evidence
from onnxmark.schemes.scheme import Answers, Reads
from onnxmark.statistics import log10_binomial_tail

_LABELS: Final = "labels"
_MAX_CLASSES: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TriggerOptions:
    """How a trigger key is made.

    Args:
        classes: Number of classes that labels are drawn from; 0 for labels that the owner brings along.
    """

    classes: int = 0

    def __post_init__(self) -> None:
        if self.classes != 0 and not 2 <= self.classes <= _MAX_CLASSES:
            raise ValueError(f"labels are drawn from two classes or more, not {self.classes}")


class TriggerScheme:
    """Inputs with labels, drawn by the key or chosen by the owner."""

    name: ClassVar[str] = "trigger"
    summary: ClassVar[str] = "a trigger set (Adi et al.): drawn labels have an exact null, chosen ones have none"
    reads: ClassVar[Reads] = Reads.ANSWERS
    signs_tested: ClassVar[int] = 1
    options: ClassVar[type[TriggerOptions]] = TriggerOptions

    def make_key(self, inputs: AnyArray, labels: AnyArray | None, options: TriggerOptions) -> Key:
        """A fresh key.

        Args:
            inputs: The triggers, shape (n, ...), as models take them.
            labels: The owner's labels, shape (n,); None where the key draws them.
            options: See :class:`TriggerOptions`.

        Raises:
            KeyFileError: Labels and inputs do not fit each other, or it is not said where labels come from.
        """
        check_bits(len(inputs))
        if (labels is None) == (options.classes == 0):
            raise KeyFileError("give either labels of your own or the number of classes to draw them from (classes=N)")
        arrays = dict(stored_inputs(inputs))
        if labels is not None:
            arrays[_LABELS] = _checked(labels, len(inputs)).astype(np.int32)
        seed, salt = draw_secret_parts()
        return Key(
            scheme=self.name,
            seed=seed,
            salt=salt,
            payload=np.zeros(len(inputs), dtype=np.uint8),
            carriers=(),
            parameters={"classes": options.classes},
            arrays=arrays,
        )

    def facts(self, key: Key) -> dict[str, str]:
        """See :class:`onnxmark.schemes.scheme.Scheme`."""
        classes = _classes(key)
        drawn = f"drawn from {classes:,} classes" if classes else "the owner's own, which have no null"
        return {"carriers": f"{key.n_bits:,} triggers", "labels": drawn}

    def inputs(self, key: Key, given: AnyArray | None) -> AnyArray:
        """See :class:`onnxmark.schemes.scheme.AnswerScheme`."""
        return inputs_of(key, key.n_bits, given)

    def labels(self, key: Key) -> Int64Array:
        """The classes to train the triggers with, shape (n,).

        Raises:
            KeyFileError: The key holds none that make sense.
        """
        classes = _classes(key)
        if classes:
            # A 64-bit word modulo at most 2^31 classes is uniform to within 2^-33.
            words = np.frombuffer(stream(key.master, "digit", 0, 8 * key.n_bits), dtype="<u8")
            return (words % np.uint64(classes)).astype(np.int64)
        labels = key.arrays.get(_LABELS)
        if labels is None:
            raise KeyFileError("the key neither draws labels nor holds any")
        return _checked(labels, key.n_bits)

    def extract(self, key: Key, answers: Answers) -> Evidence:
        """See :class:`onnxmark.schemes.scheme.AnswerScheme`."""
        labels, classes = self.labels(key), _classes(key)
        right = answers.decisions == labels
        hits = int(np.sum(right))
        if not classes:
            reason = (
                f"{hits:,} of {key.n_bits:,} triggers are answered as labelled, which has no probability: the labels "
                "were chosen and not drawn; make a key that draws them (--set classes=N) and train with its labels"
            )
            return no_evidence(key.n_bits, reason, symbol="trigger")
        test = Test(f"hits (chance 1/{classes})", log10_binomial_tail(hits, key.n_bits, classes), "exact")
        return Evidence(
            margins=np.where(right, 1.0, -1.0),
            n_errors=key.n_bits - hits,
            n_erasures=0,
            log10_p=test.log10_p,
            tests=(test,),
            symbol="trigger",
            unit="decisions",
            chance=1 - 1 / classes,
        )


def _classes(key: Key) -> int:
    classes = key.parameters.get("classes")
    if not isinstance(classes, int) or not (classes == 0 or 2 <= classes <= _MAX_CLASSES):
        raise KeyFileError(f"the key draws labels from {classes!r} classes")
    return classes


def _checked(labels: AnyArray, count: int) -> Int64Array:
    flat = labels.reshape(-1)
    if flat.dtype.kind not in "iu" or flat.size != count or (flat.size and int(flat.min()) < 0):
        raise KeyFileError(f"labels must be {count:,} class indices, found {labels.dtype} of shape {labels.shape}")
    return flat.astype(np.int64)
