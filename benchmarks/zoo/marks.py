"""A mark in the middle of every converted model: found in the marked file, and in the unmarked one not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from onnxmark.audit import audit_file
from onnxmark.conversion.origins import from_record
from onnxmark.keymaking import COMFORTABLE_ENTRIES_PER_BIT, carrier_of, make_key
from onnxmark.keys import Key, Secret
from onnxmark.marking import embed_file
from onnxmark.model import WeightSite, open_model
from onnxmark.plugins import scheme

N_BITS: Final = 256


@dataclass(frozen=True, slots=True)
class Mark:
    """What an audit says of a model with a mark, and without.

    Args:
        layer: The layer marked.
        relative_change: Norm of its change over its norm.
        marked: Verdict on the marked file.
        log10_p: Probability of such a reading by chance after correction, base 10.
        unmarked: Verdict on the file before.
    """

    layer: str
    relative_change: float
    marked: str
    log10_p: float
    unmarked: str

    @property
    def is_told(self) -> bool:
        """Whether the mark was found where it is, and not where it is not."""
        return (self.marked, self.unmarked) == ("match", "no-match")


def mark(path: Path, output: Path) -> Mark:
    """Mark the middle layer of a converted file, and audit it before and after.

    Raises:
        OnnxmarkError: No layer has room, or the file cannot be marked.
    """
    with open_model(path) as model:
        traced = {origin.site for origin in from_record(model.metadata, str(path))}
        site = middle([site for site in model.sites() if site.name in traced])
    key = public_key(site)
    marking = embed_file(path, key, output, layer=site.name, schemes=scheme)
    (after,) = audit_file(output, [key], schemes=scheme).findings
    (before,) = audit_file(path, [key], schemes=scheme).findings
    return Mark(
        layer=site.name,
        relative_change=marking.relative_change or 0.0,
        marked=after.verdict.value,
        log10_p=after.judgement.log10_p_value,
        unmarked=before.verdict.value,
    )


def middle(sites: Sequence[WeightSite]) -> WeightSite:
    """The middle one of the convolutions across channels that have room for the message.

    Raises:
        ValueError: There is none.
    """
    wanted = COMFORTABLE_ENTRIES_PER_BIT * N_BITS
    roomy = [
        site
        for site in sites
        if len(site.shape) == 4 and site.shape[1] > 1 and np.prod(site.shape, dtype=int) >= wanted
    ]
    if not roomy:
        raise ValueError(f"none of {len(sites)} layers is a convolution with {wanted} weights")
    return roomy[len(roomy) // 2]


def public_key(site: WeightSite) -> Key:
    """A key for a layer, grown from a *public* seed: for benchmarks only."""
    seed, salt = (hashlib.sha256(f"onnxmark benchmark zoo: {site.name} {part}".encode()).digest() for part in "ab")
    payload = np.random.default_rng(0).integers(0, 2, N_BITS).astype(np.uint8)
    return replace(make_key(carrier_of(site), payload), seed=Secret(seed), salt=salt)
