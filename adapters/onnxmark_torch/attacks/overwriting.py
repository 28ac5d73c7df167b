"""Overwriting by training: the thief embeds marks of his own with the owner's scheme and keys that he draws.

Uchida et al. (ICMR 2017, arXiv 1701.04082) and MPAI-NNW (IEEE Std 3304-2023) write one to four further marks. The same
without data is :class:`onnxmark.attacks.Overwriting`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from onnxmark.attacks.overwriting import BITS
from onnxmark.errors import AttackError, KeyFileError
from onnxmark.keys import Carrier, Key, Secret
from onnxmark.schemes.projection.carriers import MEAN_IHW, vector_size
from onnxmark_torch.attacks.attack import TrainingAttack, TrainingMeans, described
from onnxmark_torch.attacks.copies import copied
from onnxmark_torch.layers import HostLayer, host_layers, plain_name
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import train
from onnxmark_torch.watermark import Watermark


@dataclass(frozen=True, slots=True)
class TrainedOverwriting(TrainingAttack):
    """Fine-tune with the owner's regulariser and random Gaussian keys, one mark after the other.

    Args:
        marks: How many, 1 or more.
        layer: Where; the worst case is the owner's own layer. None takes the layer of most weights.
        carrier: What the thief's keys read: ``mean-ihw``, ``mean-hwi``, ``full`` or ``fold:<buckets>``.
        n_bits: Length of each message, 1 or more.
        strength: Weight of the embedding loss, above 0.
        epochs: Times the thief's images are seen for each mark, at least 1.
        rate: Learning rate at the start, above 0.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "overwrite-trained"
    summary: ClassVar[str] = "train marks of other keys into the model; how many, from 1"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    marks: int = 1
    layer: str | None = None
    carrier: str = MEAN_IHW
    n_bits: int = BITS
    strength: float = 0.01
    epochs: int = 10
    rate: float = 0.01
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("marks", "n_bits"):
            count = getattr(self, name)
            if type(count) is not int or count < 1:
                raise ValueError(f"{name} must be a whole number from 1, found {count!r}")
        if not 0 < self.strength < math.inf:
            raise ValueError(f"the strength of overwriting must be finite and positive, found {self.strength!r}")
        try:
            vector_size(self.carrier, (1, 1))
        except KeyFileError as error:
            raise ValueError(f"overwriting: {error}") from error
        self._plan(0)

    @property
    def label(self) -> str:
        """``overwriting by training 2 marks``, with what differs from the default."""
        return described(self, f"overwriting by training {self.marks} {'mark' if self.marks == 1 else 'marks'}")

    def run(self, model: nn.Module, means: TrainingMeans) -> nn.Module:
        """See :class:`onnxmark_torch.attacks.attack.TrainingAttack`."""
        stolen = copied(model)
        layer = _layer(stolen, self.layer)
        rng = np.random.default_rng(means.seed)
        for _ in range(self.marks):
            mark = Watermark(self._key(layer, rng), layer.name, self.strength)
            train(stolen, means.task, self._plan(means.seed), mark, show=means.show)
        return stolen

    def _key(self, layer: HostLayer, rng: np.random.Generator) -> Key:
        """A key of the thief's; random rows, as everybody with the scheme's code would draw them."""
        return Key(
            scheme="projection",
            seed=Secret(rng.bytes(32)),
            salt=rng.bytes(32),
            payload=np.zeros(self.n_bits, dtype=np.uint8),
            carriers=(Carrier(layer.shape),),
            parameters={"generator": "gaussian", "carrier": self.carrier},
        )

    def _plan(self, seed: int) -> TrainingPlan:
        return TrainingPlan(self.epochs, self.batch_size, self.rate, seed=seed)


def _layer(model: nn.Module, name: str | None) -> HostLayer:
    layers = host_layers(model)
    wanted = [layer for layer in layers if name is None or plain_name(name) in map(plain_name, layer.names)]
    if not wanted:
        raise AttackError(f"the model has no layer {'to overwrite' if name is None else repr(name)}")
    return max(wanted, key=lambda layer: layer.weight.numel())
