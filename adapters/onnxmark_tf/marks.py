"""The marks of a Keras model: where they are, how they stand, and how they leave no trace in what is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from onnxmark.errors import CarrierError
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.projection.extraction import read_message
from onnxmark.weights import Origin, WeightTensor
from onnxmark_tf.carriers import Layout
from onnxmark_tf.hosts import HostWeights, host_weights
from onnxmark_tf.regularizer import WatermarkRegularizer

_LAYOUTS: Final[Mapping[str, Layout]] = MappingProxyType(
    {"HWIO": "plain", "IO": "plain", "HWCM": "depthwise", "HWOI": "transposed"}
)


@dataclass(frozen=True, slots=True, eq=False)
class MarkedKernel:
    """A kernel with a watermark regularizer.

    Args:
        host: The kernel, as its layer has it.
        regularizer: Its regularizer.
    """

    host: HostWeights
    regularizer: WatermarkRegularizer

    def check(self) -> None:
        """Refuse what would train no mark, or one that nobody can read.

        Raises:
            CarrierError: The regularizer mistakes the kernel's order, the key does not fit, or the kernel is frozen.
        """
        layout = _LAYOUTS[self.host.order]
        if self.regularizer.layout != layout:
            raise CarrierError(
                f"{self.host.name!r} is a {layout} kernel and its watermark regularizer reads a "
                f"{self.regularizer.layout} one; say WatermarkRegularizer(..., layout={layout!r})"
            )
        self.regularizer.check(self.host.shape)
        if not self.host.tensor.trainable:
            raise CarrierError(
                f"{self.host.name!r} is frozen, and Keras leaves the regularizers of frozen weights out; set "
                "layer.trainable = True before compile(), or mark another layer"
            )

    def read(self) -> Evidence:
        """The mark as an audit would read it from the kernel as it is now.

        Raises:
            CarrierError: The key does not fit.
            KeyFileError: The key is not at hand.
        """
        self.regularizer.check(self.host.shape)
        origin = Origin(self.host.name, "", -1, "Keras variable", self.host.group)
        weights = WeightTensor(self.host.name, self.host.values(), origin)
        return read_message(self.regularizer.projection(weights.shape), weights, fair=True)


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The marks as read from every marked kernel; the figures are those of the kernel where one stands worst.

    Args:
        kernels: What was read, by the kernel's path; at least one. Margins are in units of a random key's standard
            deviation.
    """

    kernels: dict[str, Evidence]

    @property
    def bit_error_rate(self) -> float:
        """Wrong bits over T, in [0, 1]; an erasure counts as wrong."""
        return max(evidence.bit_error_rate for evidence in self.kernels.values())

    @property
    def min_margin(self) -> float:
        """Smallest margin; negative where a bit is wrong."""
        return min(float(evidence.margins.min()) for evidence in self.kernels.values())

    @property
    def log10_p(self) -> float:
        """Base-10 logarithm of the probability of such a reading by chance, before any correction."""
        return max(evidence.log10_p for evidence in self.kernels.values())

    def __str__(self) -> str:
        return (
            f"BER {self.bit_error_rate:.3f}, margin {self.min_margin:.2f} at least, log10 p {self.log10_p:.1f} "
            f"in {', '.join(self.kernels)}"
        )


def report(model: Any) -> Report:
    """How the marks of a model stand: what an audit would read from its weights as they are now.

    Batch normalisation that a converter folds in rescales each filter; margins in the file differ from these.

    Raises:
        CarrierError: No layer has a watermark regularizer, or a key does not fit its kernel.
        KeyFileError: A regularizer came from a file, without its key.
    """
    return Report({kernel.host.name: kernel.read() for kernel in marked_kernels(model)})


def marked_kernels(model: Any) -> tuple[MarkedKernel, ...]:
    """The kernels of a model that have a watermark regularizer, in the model's order.

    Raises:
        CarrierError: There are none, or weights that are no kernel of a convolution or a dense layer have one.
    """
    found = {id(host.tensor): host for host in host_weights(model)}
    marked = [variable for variable in model.weights if _is_marked(variable)]
    if not marked:
        raise CarrierError(
            f"no layer of model {model.name!r} has a watermark regularizer; give one its kernel_regularizer="
            "WatermarkRegularizer(key), or call the model once if its layers are not built yet"
        )
    if stray := next((variable.path for variable in marked if id(variable) not in found), None):
        raise CarrierError(
            f"{stray!r} has a watermark regularizer and is no kernel of a convolution or a dense layer, where an audit "
            "would look for it; give the regularizer to one of those"
        )
    return tuple(MarkedKernel(found[id(variable)], variable.regularizer) for variable in marked)


def remove_regularizers(model: Any) -> None:
    """Take a model's watermark regularizers out, in place: files saved from then on do not say what was marked.

    They say it otherwise, by the regularizer's name in the layer's config, and need onnxmark to be loaded. The mark in
    the weights stays. Compile the model again before it is trained any further.
    """
    # Keras's own walk: the public ``layers`` leaves out the parts of composite layers that users write.
    for layer in model._flatten_layers():
        for name, value in list(vars(layer).items()):
            if isinstance(value, WatermarkRegularizer):
                setattr(layer, name, None)
    for variable in filter(_is_marked, model.weights):
        variable.regularizer = None


def _is_marked(variable: Any) -> bool:
    return isinstance(variable.regularizer, WatermarkRegularizer)
