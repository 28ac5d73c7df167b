"""Deep Compression's three steps in one attack: prune, share weights, code without loss.

Han, Mao, Dally (ICLR 2016, arXiv 1510.00149). The paper retrains after the first two steps, which takes data; here the
weights are what the steps alone leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxmark.arrays import Float32Array
from onnxmark.attacks.attack import Means
from onnxmark.attacks.clustering import KMeansClustering
from onnxmark.attacks.entropy_coding import GAP_BITS, MAX_GAP_BITS, Sizes, sizes
from onnxmark.attacks.pruning import MagnitudePruning, Pruning


@dataclass(frozen=True, slots=True)
class DeepCompression(Pruning):
    """L1 pruning, then k-means clustering of what is left; Huffman coding, the third step, changes no weight.

    Args:
        fraction: Part of the layer's weights to zero, 0 to 1 (the paper's networks lose 0.89 to 0.92).
        bits: Bits an index into the codebook, 1 to 16 (the paper: 8 for convolutions, 5 for dense layers).
        gap_bits: Bits of the distance between weights that are left, 1 to 16; concerns the size only.
    """

    name: ClassVar[str] = "deep-compress"
    title: ClassVar[str] = "Deep Compression"
    summary: ClassVar[str] = "prune, cluster, code without loss; fraction of the layer pruned, 0 to 1"

    bits: int = 5
    gap_bits: int = GAP_BITS

    def __post_init__(self) -> None:
        Pruning.__post_init__(self)
        KMeansClustering(self.bits)
        if type(self.gap_bits) is not int or not 1 <= self.gap_bits <= MAX_GAP_BITS:
            raise ValueError(
                f"the bits of a gap must be a whole number from 1 to {MAX_GAP_BITS}, found {self.gap_bits!r}"
            )

    @property
    def label(self) -> str:
        """``Deep Compression 90 %, 5 bit``, with the bits of a gap where they are not the default."""
        gaps = "" if self.gap_bits == GAP_BITS else f", gaps {self.gap_bits} bit"
        return f"{Pruning.label.__get__(self)}, {self.bits} bit{gaps}"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        return KMeansClustering(self.bits).change(MagnitudePruning(self.fraction).change(values, means), means)

    def sizes(self, attacked: Float32Array) -> Sizes:
        """What weights that went through the attack take in storage."""
        return sizes(attacked, self.gap_bits)
