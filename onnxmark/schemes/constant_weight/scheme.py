"""The constant weight code as keys, audits and commands know it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from onnxmark.arrays import BitArray
from onnxmark.errors import EmbeddingError, KeyFileError
from onnxmark.keys import AnyKey, Key, check_bits, draw_secret_parts, premark_signature
from onnxmark.schemes.constant_weight.extraction import read_word
from onnxmark.schemes.constant_weight.parameters import (
    Options,
    Parameters,
    check_room,
    checked_rate,
    chosen_code,
    parameters_of,
)
from onnxmark.schemes.constant_weight.selection import selection_of
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.scheme import Embedded, EmbeddingMeans, Layer, PlainReading, Reading, Reads, Shape
from onnxmark.weights import WeightTensor

_READING = PlainReading("magnitudes of chosen weights")


class ConstantWeightScheme:
    """Kuribayashi's code in the magnitudes of weights that the key chooses, over one layer or several."""

    name: ClassVar[str] = "constant-weight"
    summary: ClassVar[str] = "Kuribayashi's constant weight code in secretly chosen weights, made to survive pruning"
    reads: ClassVar[Reads] = Reads.WEIGHTS
    signs_tested: ClassVar[int] = 1
    options: ClassVar[type[Options]] = Options

    def make_key(self, layers: Sequence[Layer], payload: BitArray, options: Options) -> Key:
        """See :class:`onnxmark.schemes.scheme.WeightScheme`; the word is spread over all of the layers."""
        check_bits(payload.size)
        carriers = tuple(layer.carrier for layer in layers)
        parameters = Parameters(chosen_code(payload.size, options), checked_rate(options.rate))
        check_room(carriers, parameters)
        seed, salt = draw_secret_parts()
        first = layers[0].weights if layers else None
        return Key(
            scheme=self.name,
            seed=seed,
            salt=salt,
            payload=payload,
            carriers=carriers,
            parameters=parameters.stored(),
            # Channels moved or rescaled since are told by it; it describes one layer.
            premark=premark_signature(first.values, seed) if first is not None and len(layers) == 1 else None,
        )

    def facts(self, key: Key) -> dict[str, str]:
        """See :class:`onnxmark.schemes.scheme.Scheme`."""
        parameters = parameters_of(key)
        code = parameters.code
        return {
            "code": f"{code.length:,} symbols, {code.weight:,} of them ones; carries {code.capacity:,} bits",
            "made for": f"pruning up to {100 * parameters.rate:g} % of a layer",
        }

    def readings(self, key: AnyKey, shapes: tuple[Shape, ...]) -> tuple[PlainReading, ...]:
        """See :class:`onnxmark.schemes.scheme.WeightScheme`; weights are found by their place, so shapes must agree."""
        if not isinstance(key, Key):
            return ()
        parameters_of(key)
        return (_READING,) if shapes == tuple(carrier.shape for carrier in key.carriers) else ()

    def extract(self, key: AnyKey, layers: tuple[WeightTensor, ...], reading: Reading) -> Evidence:
        """See :class:`onnxmark.schemes.scheme.WeightScheme`."""
        own = _own(key)
        values = selection_of(own).take([layer.values for layer in layers])
        return read_word(values, parameters_of(own).code, own.message)

    def embed(self, key: AnyKey, layers: tuple[WeightTensor, ...], reading: Reading, means: EmbeddingMeans) -> Embedded:
        """See :class:`onnxmark.schemes.scheme.WeightScheme`; margins are below 1, and inputs change nothing."""
        # Auditing should not pay for what only embedding needs.
        from onnxmark.schemes.constant_weight.embedding import embedded
        from onnxmark.schemes.constant_weight.thresholds import DEFAULT_MARGIN

        margin = DEFAULT_MARGIN if means.margin is None else means.margin
        if not 0 < margin < 1:
            raise EmbeddingError(
                f"a margin of {margin:g} is out of reach: those of the constant weight code are shares of the boundary "
                f"between large and small weights; take one above 0 and below 1 (by default {DEFAULT_MARGIN:.2g})"
            )
        marked = embedded(_own(key), layers, margin)
        solved = float(self.extract(key, marked, reading).margins.min())
        return Embedded(marked, margin, solved, "change of the weights")


def _own(key: AnyKey) -> Key:
    if isinstance(key, Key):
        return key
    raise KeyFileError("a matrix holds no constant weight code; make a key with 'onnxmark keygen'")
