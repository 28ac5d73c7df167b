"""Uchida's regularizer for Keras 3, with our keys, on TensorFlow, PyTorch and JAX.

    from onnxmark_tf.regularizer import WatermarkRegularizer

    keras.layers.Conv2D(64, 3, kernel_regularizer=WatermarkRegularizer(load_key("key.npy")))

Uchida, Nagai, Sakazawa, Satoh: Embedding Watermarks into Deep Neural Networks (ICMR 2017, arXiv 1701.04082) embed with
a kernel regularizer of Keras 1. Keras adds a regularizer to the loss once a step, averages it over accumulated batches
and over replicas, scales and unscales it with the rest of the loss: a mark counts as much as it does in the PyTorch
adapter by ``loss = task + mark.loss(model)``. Clipping by norm clips it along.

Keras writes a regularizer's config into every file it saves. Ours says which key, by its commitment, and nothing of the
key itself, so a model comes back from a file without it: see :func:`keys_at_hand`. One place remains: JAX compiles the
key into its programs, and keeps those on disk where its persistent compilation cache has been switched on.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NoReturn

from onnxmark.errors import CarrierError, KeyFileError, MissingExtra
from onnxmark.keys import Key, commitment_of, encode_key
from onnxmark.schemes.projection.carriers import fitting_shape
from onnxmark.schemes.projection.projection import Projection, check_parameters, own_projection

try:
    import keras
except ModuleNotFoundError as _error:
    if _error.name != "keras":
        raise
    raise MissingExtra("keras", "tf", "the Keras regularizer") from None

from onnxmark_tf.carriers import LAYOUTS, CarrierTensors, Layout, Tensor, canonical, canonical_shape

_AT_HAND: Final[ContextVar[tuple[Key, ...]]] = ContextVar("keys at hand", default=())


@keras.saving.register_keras_serializable("onnxmark")
class WatermarkRegularizer(keras.regularizers.Regularizer):  # type: ignore[misc]
    """A mark to be trained into the kernels it is given to; one key may go into several layers.

    Give it to a layer that is yet to be built (``kernel_regularizer=``, ``depthwise_regularizer=``), or to the kernel
    of one that is, to mark a finished model by fine-tuning: ``layer.kernel.regularizer = WatermarkRegularizer(key)``,
    then ``model.compile(...)``. The second way leaves nothing in files that are saved later.

    Args:
        key: A projection key; None makes it inert: it adds nothing to the loss, and says so when it is asked to.
        strength: Lambda, the weight of the embedding loss; 0.01 in the paper. At least 0. It is read when Keras traces
            its training function; to change it, set it and compile the model again.
        layout: What the kernel belongs to: ``plain`` for convolutions and dense layers, ``depthwise`` and
            ``transposed`` for those convolutions, whose kernels Keras keeps in another order.
        stop_at_margin: Leave a kernel alone in every step at which each bit is right by so many standard deviations of
            a random key's score, above 0; None pulls to the end.
        commitment: Of the key, where it is not at hand.

    Raises:
        KeyFileError: The key is no projection key, or its parameters make no sense.
    """

    def __init__(
        self,
        key: Key | None,
        strength: float = 0.01,
        *,
        layout: Layout = "plain",
        stop_at_margin: float | None = None,
        commitment: str = "",
    ) -> None:
        if not 0 <= strength < float("inf"):
            raise ValueError(f"strength must be at least 0 and finite, not {strength}")
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
        if stop_at_margin is not None and not 0 < stop_at_margin < float("inf"):
            raise ValueError(f"stop_at_margin must be above 0 and finite, not {stop_at_margin}")
        self._tensors = None if key is None else _tensors(key)
        self.key = key
        self.strength = float(strength)
        self.layout: Layout = layout
        self.stop_at_margin = stop_at_margin
        self.commitment = commitment if key is None else _commitment(key)
        self._has_warned = False

    def __call__(self, kernel: Tensor) -> Tensor:
        """The embedding loss of a kernel times the strength, a float32 scalar; Keras calls this in every step.

        Raises:
            CarrierError: The key does not fit the kernel.
        """
        if self._tensors is None:
            self._warn()
            return keras.ops.zeros((), dtype="float32")
        self.check(tuple(kernel.shape))
        values = canonical(kernel, self.layout)
        loss = self.strength * self._tensors.loss(values)
        if self.stop_at_margin is None:
            return loss
        return keras.ops.where(self._tensors.has_margin(values, self.stop_at_margin), 0.0, loss)

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse a kernel that the key cannot be read from.

        Args:
            shape: As Keras keeps the kernel.

        Raises:
            CarrierError: The key does not fit it.
        """
        if self.key is None or self._fits(shape, self.layout):
            return
        wanted, found = (" x ".join(map(str, each)) for each in (self.key.carrier.shape, shape))
        other = next((layout for layout in LAYOUTS if self._fits(shape, layout)), None)
        cure = f"say layout={other!r} if that is what the layer is" if other else "take another layer"
        raise CarrierError(
            f"a {self.layout} kernel of shape {found} does not fit the key, made for out x in x spatial {wanted}, "
            f"carrier {self.key.parameters['carrier']}; {cure}, or make a key for this one with 'onnxmark keygen'"
        )

    def projection(self, shape: tuple[int, ...]) -> Projection:
        """The key over a layer of a canonical shape, in NumPy.

        Raises:
            KeyFileError: The key is not at hand.
        """
        if self.key is None:
            raise KeyFileError(f"this watermark regularizer has no key; {_CURE}")
        return own_projection(self.key, shape)

    def get_config(self) -> dict[str, Any]:
        """What Keras writes into files: the key's commitment, and nothing else of the key."""
        return {
            "key": None,
            "strength": self.strength,
            "layout": self.layout,
            "stop_at_margin": self.stop_at_margin,
            "commitment": self.commitment,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WatermarkRegularizer:
        """The regularizer of a config, with the key it had if that is among :func:`keys_at_hand`, else inert."""
        key = next((key for key in _AT_HAND.get() if _commitment(key) == config.get("commitment")), None)
        return cls(**{**config, "key": key})

    def __repr__(self) -> str:
        inert = ", inert" if self.key is None else ""
        return f"WatermarkRegularizer(strength={self.strength}, layout={self.layout!r}{inert})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a watermark regularizer holds its key and cannot be pickled; save the model with model.save()")

    def _fits(self, shape: tuple[int, ...], layout: Layout) -> bool:
        if self.key is None or len(shape) < 2:
            return False
        seen = canonical_shape(shape, layout)
        return fitting_shape(str(self.key.parameters["carrier"]), self.key.carrier.shape, seen) == seen

    def _warn(self) -> None:
        # Keras asks in every trace, and in every step where it does not trace.
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"the watermark is not being trained: its regularizer came without the key; {_CURE}", stacklevel=3
            )


_CURE: Final = "load or clone the model inside 'with keys_at_hand(key):'"


@contextmanager
def keys_at_hand(*keys: Key) -> Iterator[None]:
    """Give models that are loaded or cloned inside the keys of their regularizers back.

        with keys_at_hand(load_key("key.npy")):
            model = keras.models.load_model("checkpoint.keras")

    A regularizer whose key is not among them stays inert.
    """
    token = _AT_HAND.set((*keys, *_AT_HAND.get()))
    try:
        yield
    finally:
        _AT_HAND.reset(token)


def _tensors(key: Key) -> CarrierTensors:
    if key.scheme != "projection" or key.origin != "seed":
        raise KeyFileError(
            "a watermark regularizer takes a key of scheme 'projection' grown from a seed, not one of scheme "
            f"{key.scheme!r} from a {key.origin}; make one with 'onnxmark keygen'"
        )
    check_parameters(key)
    return CarrierTensors.of(own_projection(key, key.carrier.shape))


def _commitment(key: Key) -> str:
    # A key that was never written to a file has none yet; it is that of the file it would be.
    return key.commitment or commitment_of(encode_key(key))
