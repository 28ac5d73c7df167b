"""Which widths a marked layer may have, so that each of them is one digit of the message.

The layer's original width is never among them: an unmarked model then says nothing, rather than something wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from onnxmark.keys.key import Parameter


@dataclass(frozen=True, slots=True)
class WidthRule:
    """From the width of a layer to those it may have in a marked model.

    Zhao et al. speak of pruning rates; the defaults drop 10 to 50 % of a layer's channels. At those rates the 13
    convolutions of VGG-16 hold 86 bits.

    Args:
        least: Smallest part of its channels a layer keeps, above 0.
        most: Largest part, at least ``least`` and below 1.
        step: Every width is a multiple of this number of channels (8 suits most accelerators), at least 1.

    Raises:
        ValueError: An argument is out of its range.
    """

    least: float = 0.5
    most: float = 0.9
    step: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.least <= self.most < 1:
            raise ValueError(
                f"the parts of its channels a layer keeps must be 0 < least <= most < 1, not {self.least!r} and "
                f"{self.most!r}"
            )
        if self.step < 1:
            raise ValueError(f"widths go in steps of at least 1 channel, not {self.step}")

    @property
    def parameters(self) -> dict[str, Parameter]:
        """As a key stores them."""
        return {"least": self.least, "most": self.most, "step": self.step}

    def widths(self, channels: int) -> range:
        """The widths, ascending, that a layer of ``channels`` output channels may be given; empty for very few."""
        low = math.ceil(_exact(self.least) * channels / self.step) * self.step
        high = math.floor(_exact(self.most) * channels)
        return range(low, high + 1, self.step)


def _exact(part: float) -> Fraction:
    """The decimal fraction as it was written: 0.7 of 10 channels are 7, which binary fractions make 6.99…96."""
    return Fraction(repr(float(part)))
