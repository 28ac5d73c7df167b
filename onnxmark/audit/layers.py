"""Keys that read weights: every layer that fits is read, whatever its name says.

Exporters rename, fold and duplicate layers, so a name is a hint of where to look first and never a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from onnxmark.audit.findings import Candidate
from onnxmark.audit.matching import assignments
from onnxmark.errors import CarrierError, ModelError
from onnxmark.keys import AnyKey, Key
from onnxmark.model import Model, WeightSite
from onnxmark.recovery import Past
from onnxmark.schemes.scheme import WeightScheme
from onnxmark.views import look, shapes_seen, views_of
from onnxmark.weights import WeightTensor

Progress = Callable[[int, int], None]
"""Called with (layers read, layers to read)."""

_REASONS: Final = ("same name", "same node", "same position", "")
"""Why a layer is a candidate, best reason first; whether it also has the shape is said behind."""


def named_sites(sites: Sequence[WeightSite], layer: str) -> tuple[WeightSite, ...]:
    """The sites whose weights or node have this name.

    Raises:
        CarrierError: There is none; the message names the nearest.
    """
    found = tuple(site for site in sites if layer == site.name or layer in site.nodes)
    if found:
        return found
    import difflib

    names = [name for site in sites for name in (site.name, *site.nodes)]
    near = difflib.get_close_matches(layer, names, n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise CarrierError(f"no layer {layer!r} in the model{hint} ('onnxmark inspect' lists them)")


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """A key with what it takes to read it.

    Args:
        key: The key.
        scheme: Its scheme.
        past: What it remembers of its layer, or None.
    """

    key: AnyKey
    scheme: WeightScheme
    past: Past | None = None


def plan(model: Model, reader: Reader, sites: Sequence[WeightSite], *, align: bool) -> list[Candidate]:
    """Every fitting layer or layers, view and reading, in the order in which the key would expect its carrier.

    Args:
        model: The model.
        reader: The key.
        sites: The layers to choose from.
        align: Whether channels may be matched with the key's past.
    """
    return [
        Candidate(layers, view, reading, why)
        for layers, why in _choices(reader.key, [site for site in sites if site.shape])
        for view in views_of(model, layers, reader.past, align=align)
        for reading in reader.scheme.readings(reader.key, shapes_seen(layers, view, reader.past))
    ]


def _choices(key: AnyKey, sites: Sequence[WeightSite]) -> Iterator[tuple[tuple[WeightSite, ...], str]]:
    if isinstance(key, Key) and len(key.carriers) > 1:
        yield from assignments(key.carriers, sites)
        return
    reasons = [(site, _reason(key, site)) for site in sites]
    for site, reason in sorted(reasons, key=lambda pair: _REASONS.index(pair[1])):
        fitting = not isinstance(key, Key) or site.shape == key.carrier.shape
        why = f"{reason} and shape" if fitting else f"{reason}, another size"
        yield (site,), why if reason else ("same shape" if fitting else "another size")


def _reason(key: AnyKey, site: WeightSite) -> str:
    if isinstance(key, Key):
        if key.carrier.name and key.carrier.name == site.name:
            return _REASONS[0]
        if key.carrier.node and key.carrier.node in site.nodes:
            return _REASONS[1]
        if key.carrier.position == site.position:
            return _REASONS[2]
    return _REASONS[3]


def read_all(
    model: Model,
    readers: Sequence[Reader],
    plans: Sequence[Sequence[Candidate]],
    progress: Progress | None,
) -> list[tuple[Candidate, ...]]:
    """Fill in the evidence, layer by layer, so that only one candidate's weights are in memory.

    Args:
        model: The model.
        readers: The keys.
        plans: For each key its candidates.
        progress: Told how far the reading is.
    """
    jobs: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for number, candidates in enumerate(plans):
        for index, candidate in enumerate(candidates):
            jobs.setdefault(tuple(site.name for site in candidate.sites), []).append((number, index))
    done = [list(candidates) for candidates in plans]
    for count, places in enumerate(jobs.values()):
        if progress is not None:
            progress(count, len(jobs))
        first = plans[places[0][0]][places[0][1]]
        weights = _weights(model, first.sites)
        for number, index in places:
            candidate = plans[number][index]
            done[number][index] = _read(model, readers[number], candidate, weights)
    if progress is not None:
        progress(len(jobs), len(jobs))
    return [tuple(candidates) for candidates in done]


def _weights(model: Model, sites: Sequence[WeightSite]) -> tuple[WeightTensor, ...] | str:
    """The weights, or why they cannot be read."""
    try:
        return tuple(model.read(site) for site in sites)
    except ModelError as error:
        return str(error)


def _read(
    model: Model,
    reader: Reader,
    candidate: Candidate,
    weights: tuple[WeightTensor, ...] | str,
) -> Candidate:
    if isinstance(weights, str):
        return replace(candidate, problem=weights)
    try:
        seen = look(model, candidate.sites, candidate.view, weights, reader.past)
    except ModelError as error:
        return replace(candidate, problem=str(error))
    return replace(candidate, evidence=reader.scheme.extract(reader.key, seen, candidate.reading))
