"""Neurons added that change nothing: layers of other shapes, in which a mark is read from the wrong places.

Neural structural obfuscation (Yan et al., USENIX Security 2023, arXiv 2303.09732). The kinds follow the paper's
abstract and what later work names after it (``nso_zero``, ``nso_clique``, ``nso_split``); the details here, of how new
weights are drawn, are a reconstruction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, NamedTuple

import numpy as np

from onnxmark.arrays import AnyArray
from onnxmark.attacks.attack import FileMeans
from onnxmark.model.channels.groups import ChannelGroup, Commutes, Role, from_rows, rows_of
from onnxmark.model.channels.moving import constant, take_channels
from onnxmark.model.editing.editable import EditableModel
from onnxmark.symmetries.symmetry import GroupAttack

Kind = Literal["zero", "dead", "clique", "split", "mixed"]
_KINDS: Final = ("zero", "dead", "clique", "split")
_MAKERS: Final = (Role.PRODUCER, Role.DEPTHWISE)


class Dummy(NamedTuple):
    """New neurons that belong together.

    Args:
        kind: What they are.
        new: Their channels.
        donor: The channel that lends them biases, normalisation and whatever else is not drawn; that is split.
    """

    kind: str
    new: tuple[int, ...]
    donor: int


@dataclass(frozen=True, slots=True)
class DummyNeurons(GroupAttack):
    """Add neurons to every group of channels that can grow.

    * ``zero``: its weights are drawn at random, nothing uses its output.
    * ``dead``: its output is always 0, what uses it is drawn at random. Only where every activation maps 0 to 0.
    * ``clique``: two with the same random weights, used with opposite signs.
    * ``split``: a copy of a neuron, which shares what uses it out among both at random.
    * ``mixed``: any of these.

    Args:
        fraction: Neurons added to a group, as a part of those it has; at least 0. Cliques come in twos, rounded up.
        kind: Which ones.
        shuffle: Permute the neurons of a group afterwards; without, the new ones are the last.
    """

    name: ClassVar[str] = "dummy-neurons"
    summary: ClassVar[str] = "add neurons that do nothing, function kept; part of the neurons there are, 0 or more"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.5)
    done: ClassVar[str] = "dummy neurons added"
    wanted: ClassVar[str] = "have neurons added"

    fraction: float
    kind: Kind = "mixed"
    shuffle: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 100:
            raise ValueError(f"the fraction of neurons to add must be from 0 to 100, found {self.fraction!r}")
        if self.kind not in (*_KINDS, "mixed"):
            raise ValueError(f"the kind of neurons must be one of {', '.join(_KINDS)} or mixed, found {self.kind!r}")

    @property
    def label(self) -> str:
        """``dummy neurons 20 %``, with what differs from the default."""
        variant = ("" if self.kind == "mixed" else f", {self.kind}") + ("" if self.shuffle else ", in order")
        return f"dummy neurons {100 * self.fraction:.10g} %{variant}"

    def move(self, model: EditableModel, group: ChannelGroup, means: FileMeans) -> str | None:
        """See :class:`onnxmark.symmetries.symmetry.GroupAttack`."""
        if group.rigid is not None:
            return group.rigid
        kinds = self._kinds(group)
        count = round(self.fraction * group.size)
        if not kinds or not count:
            return "no neuron would be added" if kinds else "an activation on their way may make something of nothing"
        dummies = tuple(_drawn(kinds, group.size, count, means.rng))
        size = _grow(model, group, dummies, means.rng)
        if self.shuffle:
            take_channels(model, group, means.rng.permutation(size))
        return None

    def _kinds(self, group: ChannelGroup) -> tuple[str, ...]:
        """The kinds that are wanted and possible."""
        wanted = _KINDS if self.kind == "mixed" else (self.kind,)
        return wanted if _keeps_zero(group) else tuple(kind for kind in wanted if kind != "dead")


def _keeps_zero(group: ChannelGroup) -> bool:
    """Whether a channel that nothing is added to stays 0 wherever it goes."""
    return all(Commutes.ZERO in region.commutes for region in group.regions)


def _drawn(kinds: tuple[str, ...], size: int, count: int, rng: np.random.Generator) -> Iterator[Dummy]:
    """Dummies of ``count`` new neurons, or one more."""
    new = size
    while new < size + count:
        kind = kinds[rng.integers(len(kinds))]
        members = (new, new + 1) if kind == "clique" else (new,)
        yield Dummy(kind, members, int(rng.integers(size)))
        new += len(members)


def _grow(model: EditableModel, group: ChannelGroup, dummies: tuple[Dummy, ...], rng: np.random.Generator) -> int:
    """Add the neurons at the end of the group; returns how many there are now."""
    donors = [dummy.donor for dummy in dummies for _ in dummy.new]
    order = np.concatenate([np.arange(group.size), np.array(donors, np.int64)])
    take_channels(model, group, order)
    plain = _keeps_zero(group)
    for use in group.uses:
        values = constant(model, use)
        rows = rows_of(values, use.slot).copy()
        spread = float(rows[: group.size].std(dtype=np.float64))
        for dummy in dummies:
            if use.role is Role.CONSUMER:
                _consume(rows, dummy, spread, rng)
            elif use.gives is not None:
                _make(rows, dummy, spread if plain and use.role in _MAKERS else None, rng)
        model.replace_constant(use.node, use.place, from_rows(rows, values.shape, use.slot))
    return len(order)


def _make(rows: AnyArray, dummy: Dummy, spread: float | None, rng: np.random.Generator) -> None:
    """What makes a dummy's output: its row in weights, a bias, a mean; drawn at random if there is a spread.

    Behind a function that may be undefined somewhere (a root, a logarithm) only what a real neuron says is safe.
    """
    if dummy.kind == "dead":
        rows[dummy.new, :] = 0
    elif dummy.kind != "split" and spread is not None:
        rows[dummy.new, :] = spread * rng.standard_normal(rows.shape[1])


def _consume(rows: AnyArray, dummy: Dummy, spread: float, rng: np.random.Generator) -> None:
    """What uses a dummy's output: its row among the inputs of a layer."""
    drawn: AnyArray = np.multiply(spread, rng.standard_normal(rows.shape[1])).astype(rows.dtype)
    if dummy.kind == "zero":
        rows[dummy.new, :] = 0
    elif dummy.kind == "dead":
        rows[dummy.new, :] = drawn
    elif dummy.kind == "clique":
        rows[dummy.new, :] = drawn, -drawn
    else:
        share = rows[dummy.donor] / 2 + drawn / 2
        rows[dummy.new, :] = share
        rows[dummy.donor] -= share
