"""How to train, as a value: what a paper's set-up section says, to be printed, compared and repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

_DOMAIN: Final = 0x6F6E6E78
"""Keeps these generators apart from others that somebody seeds with the same small numbers."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Stochastic gradient descent with momentum and a rate that falls in steps.

    The defaults are those of Zagoruyko, Komodakis (BMVC 2016, arXiv 1605.07146) as Uchida et al. (ICMR 2017, arXiv
    1701.04082) use them: 200 epochs, rate 0.1, times 0.2 at epochs 60, 120 and 160. The steps are kept as shares of
    the whole training, so that a shorter one is the same in small.

    Args:
        epochs: Times every training image is seen, at least 1.
        batch_size: Images a step, at least 2 (batch normalisation cannot learn from one).
        rate: Learning rate at the start, above 0.
        momentum: Nesterov's, 0 to below 1; 0 is plain gradient descent.
        weight_decay: L2 penalty of every parameter, at least 0.
        milestones: Shares of the training after which the rate falls, 0 to 1.
        fall: What the rate is then multiplied by, above 0.
        seed: Decides the order of images and their augmentation; initial weights are the caller's.
    """

    epochs: int = 200
    batch_size: int = 64
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[float, ...] = (0.3, 0.6, 0.8)
    fall: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(
                f"epochs must be at least 1 and batch_size at least 2, not {self.epochs}, {self.batch_size}"
            )
        if not (self.rate > 0 and self.fall > 0 and self.weight_decay >= 0 and 0 <= self.momentum < 1):
            raise ValueError(
                "rate and fall must be above 0, weight_decay at least 0 and momentum from 0 to below 1, "
                f"not {self.rate}, {self.fall}, {self.weight_decay} and {self.momentum}"
            )
        if not all(0 <= share <= 1 for share in self.milestones):
            raise ValueError(f"milestones are shares of the training, 0 to 1, not {self.milestones}")

    def steps(self, n_images: int) -> int:
        """Optimizer steps an epoch: only full batches, or one of all images where they are fewer."""
        return max(1, n_images // self.batch_size)

    def rate_at(self, done: float) -> float:
        """Learning rate once a share ``done`` (0 to 1) of all steps has been made."""
        return self.rate * self.fall ** sum(done >= share for share in self.milestones)

    def generator(self, epoch: int) -> torch.Generator:
        """The source of all randomness of an epoch (counted from 0), on the CPU; it depends on no other epoch."""
        state = np.random.SeedSequence([_DOMAIN, self.seed, epoch]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0]) >> 1)


FINE_TUNING: Final = TrainingPlan(epochs=20, rate=0.01)
"""A tenth of the epochs at a tenth of the rate: a reconstruction, the paper's own set-up for it was not at hand."""
