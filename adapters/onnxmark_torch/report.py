"""How the mark stands during training: the audit's own reading of the model's weights, without a file in between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.projection.extraction import read_message
from onnxmark.schemes.projection.projection import Projection
from onnxmark.weights import Origin, WeightTensor
from onnxmark_torch.targets import Target


@dataclass(frozen=True, slots=True, eq=False)
class LayerReading:
    """The mark as read from one layer.

    Args:
        layer: Name of the module.
        evidence: What was read, as in an audit; margins are in units of a random key's standard deviation.
    """

    layer: str
    evidence: Evidence


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The mark as read from every target layer; the figures are those of the layer where it stands worst.

    Args:
        layers: One reading a target layer, at least one.
    """

    layers: tuple[LayerReading, ...]

    @property
    def n_bits(self) -> int:
        """Length T of the message."""
        return self.layers[0].evidence.n_bits

    @property
    def bit_error_rate(self) -> float:
        """Wrong bits over T, in [0, 1]; an erasure counts as wrong."""
        return max(reading.evidence.bit_error_rate for reading in self.layers)

    @property
    def min_margin(self) -> float:
        """Smallest margin, in units of a random key's standard deviation; negative where a bit is wrong."""
        return min(float(reading.evidence.margins.min()) for reading in self.layers)

    @property
    def mean_margin(self) -> float:
        """Mean margin, in the same units."""
        return min(float(reading.evidence.margins.mean()) for reading in self.layers)

    @property
    def embedding_loss(self) -> float:
        """Mean over the bits of the binary cross-entropy (training minimises the sum)."""
        return max(reading.evidence.embedding_loss or 0.0 for reading in self.layers)

    @property
    def log10_p(self) -> float:
        """Base-10 logarithm of the probability of such a reading by chance, before any correction."""
        return max(reading.evidence.log10_p for reading in self.layers)

    def __str__(self) -> str:
        return (
            f"BER {self.bit_error_rate:.3f} of {self.n_bits} bits, margin {self.min_margin:.2f} at least and "
            f"{self.mean_margin:.2f} on average, loss {self.embedding_loss:.2e}, log10 p {self.log10_p:.1f}"
        )


def host_weights(target: Target) -> WeightTensor:
    """A layer's weights as an audit would see them in a file: a copy in canonical order, float32."""
    layer = target.layer
    # A copy: WeightTensor makes its array read-only, and .numpy() shares memory with the parameter.
    copy = np.array(target.values().detach().cpu().numpy(), dtype=np.float32, order="C")
    return WeightTensor(f"{layer.name}.weight", copy, Origin(layer.name, layer.op, -1, "PyTorch module", layer.group))


def read_target(target: Target, projection: Projection, *, fair: bool) -> LayerReading:
    """The mark as read from a layer; ``fair`` as in :func:`onnxmark.schemes.projection.extraction.read_message`."""
    return LayerReading(target.layer.name, read_message(projection, host_weights(target), fair=fair))
