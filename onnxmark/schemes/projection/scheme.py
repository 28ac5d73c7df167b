"""The projection scheme as keys, audits and commands know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final, cast

from onnxmark.arrays import BitArray
from onnxmark.errors import EmbeddingError, KeyFileError
from onnxmark.keys import AnyKey, Key, check_bits, draw_secret_parts, premark_signature
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.projection.carriers import default_kind, fit_kernel, fitting_shape
from onnxmark.schemes.projection.extraction import read_message
from onnxmark.schemes.projection.projection import (
    Generator,
    Projection,
    ProjectionReading,
    check_parameters,
    foreign_readings,
    projection_of,
)
from onnxmark.schemes.scheme import Embedded, EmbeddingMeans, Layer, Reading, Reads, Shape
from onnxmark.weights import WeightTensor

DEFAULT_MARGIN: Final = 2.0
_KEPT_PROJECTIONS: Final = 4


@dataclass(frozen=True, slots=True)
class ProjectionOptions:
    """How a projection key is drawn.

    Args:
        generator: Rows: ``rademacher``, or Uchida's ``gaussian``, ``direct`` and ``diff``.
        carrier: What rows read: ``full``, ``fold:<buckets>``, ``mean-ihw`` or ``mean-hwi``; by default the full tensor,
            or a keyed fold of it where it is large.
    """

    generator: Generator = "rademacher"
    carrier: str | None = None


class ProjectionScheme:
    """Uchida's reading with every carrier and generator of ours, and with foreign matrices."""

    name: ClassVar[str] = "projection"
    summary: ClassVar[str] = "Uchida's linear projection of a layer, with dense keys of ours or the paper's"
    reads: ClassVar[Reads] = Reads.WEIGHTS
    signs_tested: ClassVar[int] = 2
    options: ClassVar[type[ProjectionOptions]] = ProjectionOptions

    def make_key(self, layers: Sequence[Layer], payload: BitArray, options: ProjectionOptions) -> Key:
        """See :class:`onnxmark.schemes.scheme.WeightScheme`; one layer, whose signature the key keeps."""
        if len(layers) != 1:
            raise KeyFileError(f"a projection key is made for one layer, not {len(layers)}; name it with --layer")
        check_bits(payload.size)
        (layer,) = layers
        seed, salt = draw_secret_parts()
        kind = default_kind(layer.carrier.shape) if options.carrier is None else options.carrier
        key = Key(
            scheme=self.name,
            seed=seed,
            salt=salt,
            payload=payload,
            carriers=(layer.carrier,),
            parameters={"generator": options.generator, "carrier": kind},
            premark=None if layer.weights is None else premark_signature(layer.weights.values, seed),
        )
        check_parameters(key)
        return key

    def facts(self, key: Key) -> dict[str, str]:
        """See :class:`onnxmark.schemes.scheme.Scheme`."""
        check_parameters(key)
        return {"rows": str(key.parameters["generator"]), "carrier": str(key.parameters["carrier"])}

    def readings(self, key: AnyKey, shapes: tuple[Shape, ...]) -> tuple[ProjectionReading, ...]:
        """See :class:`onnxmark.schemes.scheme.WeightScheme`."""
        (shape,) = shapes
        if not isinstance(key, Key):
            return foreign_readings(key, shape)
        check_parameters(key)
        kind = str(key.parameters["carrier"])
        fitting = fitting_shape(kind, key.carrier.shape, shape)
        return () if fitting is None else (ProjectionReading(kind, fitting, resized=fitting != shape),)

    def extract(self, key: AnyKey, layers: tuple[WeightTensor, ...], reading: Reading) -> Evidence:
        """See :class:`onnxmark.schemes.scheme.WeightScheme`."""
        (weights,), way = layers, cast("ProjectionReading", reading)
        fitted = weights.with_values(fit_kernel(weights.values, way.shape)) if way.resized else weights
        return read_message(_projection(key, way), fitted, fair=isinstance(key, Key))

    def embed(self, key: AnyKey, layers: tuple[WeightTensor, ...], reading: Reading, means: EmbeddingMeans) -> Embedded:
        """See :class:`onnxmark.schemes.scheme.WeightScheme`."""
        # Auditing should not pay for loading the solver.
        from onnxmark.schemes.projection.closed_form import embed_message
        from onnxmark.schemes.projection.metric import ActivationMetric

        (weights,), way = layers, cast("ProjectionReading", reading)
        if way.resized:
            raise EmbeddingError("the layer's kernel has another size than the key's; make a key for this model")
        moments = means.second_moments
        margin = DEFAULT_MARGIN if means.margin is None else means.margin
        metric = None if moments is None else ActivationMetric(moments()[0])
        found = embed_message(weights, projection_of(key, way), margin, metric)
        words = "change of the weights" if metric is None else "change of the layer's output on the calibration inputs"
        return Embedded((found.weights,), margin, found.margin, words)


@lru_cache(maxsize=_KEPT_PROJECTIONS)
def _projection(key: AnyKey, reading: ProjectionReading) -> Projection:
    # A robustness sweep reads the same rows dozens of times.
    return projection_of(key, reading)
