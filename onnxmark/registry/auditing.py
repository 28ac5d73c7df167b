"""What a worker does: a chunk of models against the whole ring, every layer read once.

The outcome of a model is plain data, the same whoever computes it and in whatever company: only what might survive the
correction over the whole scan is kept in full, so that verdicts can be given at the end without reading anything again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.audit import Candidate, Finding, audit_model
from onnxmark.conversion import Container, Request, container_of
from onnxmark.conversion import convert as convert_container
from onnxmark.errors import MissingExtra, ModelError, PluginError, TrustRequired
from onnxmark.keys import AnyKey, Key
from onnxmark.model import Model, open_model
from onnxmark.model.records import Storage
from onnxmark.plugins import converter as converter_of
from onnxmark.plugins import scheme as scheme_of
from onnxmark.registry.journal import COMPANIONS
from onnxmark.registry.products import centred, folded, keyed_fold, suspicious
from onnxmark.registry.remote import data_files, local_copy
from onnxmark.registry.ring import Group, Ring, load_ring
from onnxmark.registry.suspects import Place, Suspect
from onnxmark.report.documents.findings import finding_document
from onnxmark.schemes.projection.carriers import FOLD, FoldedCarrier, carrier_map
from onnxmark.verdict import Verdict
from onnxmark.views import View, with_norms

LEVEL: Final = 1e-5
"""Readings of at most this probability, before correction and over both signs, are kept; alpha, where it is larger."""
SIGNS: Final = 2

HELD: Final = 2**28
"""Bytes of weights held at once, 256 MiB; a worker takes about four times as much, and a single model may need more."""

Result = dict[str, Any]
_Column = tuple[int, Place, Float32Array]
"""Which model, which of its layers, and the weights."""
_VERDICTS: Final = (
    *("verdict", "reason", "standing", "clears_seed_search", "p_value", "log10_p_value", "n_hypotheses"),
    "does_not_prove",
)
"""What a finding says only once everything that was tried is known."""


def audit_chunk(
    locations: Sequence[str],
    ring: Path,
    *,
    level: float = LEVEL,
    digest: bool = False,
    max_size: int | None = None,
    convert: bool = False,
) -> list[Result]:
    """Audit some models against a ring; what fails is a result, too.

    Args:
        locations: Paths or URLs of the models.
        ring: Folder of the ring; see :func:`onnxmark.registry.ring.ring_folder`.
        level: Probability up to which a reading is kept.
        digest: Put the SHA-256 of each file into its result.
        max_size: Bytes that may be fetched of a model that lies elsewhere.
        convert: Convert models of other frameworks, as far as that runs no code of theirs.

    Returns:
        One result for each model, in order.

    Raises:
        KeyFileError: The ring is gone.
    """
    keys = load_ring(Path(ring))
    results: list[Result] = [{}] * len(locations)
    with ExitStack() as stack:
        suspects: dict[int, Suspect] = {}
        for index, location in enumerate(locations):
            try:
                path = stack.enter_context(local_copy(location, max_size))
                suspects[index] = _opened(stack, path, container_of(path) if convert else None)
            except (ModelError, MissingExtra, PluginError, TrustRequired) as error:
                results[index] = failed(str(error))
        flagged = _flagged(suspects, keys, level)
        for index, suspect in suspects.items():
            try:
                sha256 = _digest(suspect.source) if digest else None
                results[index] = _result(_Keeper(suspect, level), keys, flagged[index], sha256)
            except (ModelError, OSError) as error:
                results[index] = failed(str(error))
    return results


def _opened(stack: ExitStack, source: Path, container: Container | None) -> Suspect:
    # Before anything is read: what changes afterwards is noticed by the next run.
    variables = _stamps(sorted(source.parent.glob("variables/*"))) if container is Container.SAVED_MODEL else ()
    path = source if container is None else stack.enter_context(_converted(source, container))
    model = stack.enter_context(open_model(path))
    suspect = Suspect(model, source, container, companions=_companions(model) if container is None else variables)
    model.sites()
    return suspect


@contextmanager
def _converted(source: Path, container: Container) -> Iterator[Path]:
    """A container as an ONNX file, for as long as the context lasts; its code is trusted with nothing."""
    with TemporaryDirectory(prefix="onnxmark-") as folder:
        target = Path(folder, "model.onnx")
        convert_container(Request(source, container, target), converter_of)
        yield target


def _companions(model: Model) -> tuple[tuple[str, int, int, int], ...]:
    """What tells whether the files of a model's external data have changed."""
    if all(tensor.storage is not Storage.EXTERNAL for tensor in model.graph.root.body.graph.initializers):
        return ()
    return _stamps([model.path.parent / name for name in data_files(model)])


def _stamps(paths: Sequence[Path]) -> tuple[tuple[str, int, int, int], ...]:
    found = ((path, path.stat()) for path in paths if path.exists())
    return tuple((str(path), status.st_size, status.st_mtime_ns, status.st_ino) for path, status in found)


def failed(problem: str) -> Result:
    """The result of a model that could not be audited."""
    return {"status": "failed", "problem": problem, "model": None, "layers": None, "n_keys": 0, "n_hypotheses": 0,
            "hits": [], "doubts": []}  # fmt: skip


def _flagged(suspects: dict[int, Suspect], ring: Ring, level: float) -> dict[int, set[int]]:
    """By model, the projection keys that a reading of it is worth an audit for."""
    found: dict[int, set[int]] = {index: set() for index in suspects}
    for some in _portions(suspects, ring):
        for group in ring.groups:
            columns = [
                (index, place, values)
                for index in some
                for place in suspects[index].places(group)
                if (values := suspects[index].values(place)) is not None
            ]
            if columns:
                for number, index in _screened(group, ring, columns, level):
                    found[index].add(number)
        for index in some:
            suspects[index].forget()
    return found


def _portions(suspects: dict[int, Suspect], ring: Ring) -> Iterator[list[int]]:
    """Models whose weights are held together."""
    some: list[int] = []
    held = 0
    for index, suspect in suspects.items():
        places = {(place.site.name, place.view): place for group in ring.groups for place in suspect.places(group)}
        size = sum(4 * math.prod(place.site.shape) for place in places.values())
        if some and held + size > HELD:
            yield some
            some, held = [], 0
        some.append(index)
        held += size
    if some:
        yield some


def _screened(group: Group, ring: Ring, columns: Sequence[_Column], level: float) -> Iterator[tuple[int, int]]:
    """Pairs of a key and a model that look as if they belonged together."""
    prepared = _prepared(group, columns)
    for number in group.keys:
        key = ring.keys[number]
        assert isinstance(key, Key)
        vectors, models = prepared(key), [index for index, _, _ in columns]
        own = list(_normed(key, columns))
        if own:
            models += [index for index, _, _ in own]
            vectors = np.concatenate([vectors, _prepared(group, own)(key)], axis=1)
        for column in suspicious(key, vectors, level):
            yield number, models[column]


def _prepared(group: Group, columns: Sequence[_Column]) -> Callable[[Key], Float32Array]:
    """From a key to what it reads of some layers; what keys have in common is done once."""
    layers = [values for _, _, values in columns]
    if group.kind.startswith(FOLD):
        weights = centred(layers)
        return lambda key: keyed_fold(_fold_of(group, key), weights)
    # Filters enter a mean fold alike, so that layers of any number of them are read; each has a map of its own.
    vectors = np.concatenate([folded(carrier_map(group.kind, one.shape, _no_secret), [one]) for one in layers], axis=1)
    return lambda key: vectors


def _fold_of(group: Group, key: Key) -> FoldedCarrier:
    return cast("FoldedCarrier", carrier_map(group.kind, group.shape, lambda: key.master))


def _normed(key: Key, columns: Sequence[_Column]) -> Iterator[_Column]:
    """Layers with the filters' norms that the key remembers from before marking."""
    norms = None if key.premark is None else key.premark.output_norm
    if norms is not None:
        for index, place, values in columns:
            if place.view is View.STORED and place.site.shape[0] == norms.size:
                yield index, place, with_norms(values, norms)


def _no_secret() -> Any:
    raise ValueError("a carrier that all keys of a group share has no secret")


def _result(keeper: _Keeper, ring: Ring, flagged: set[int], sha256: str | None) -> Result:
    suspect, model = keeper.suspect, keeper.suspect.model
    n_hypotheses, doubts = _tried(suspect, ring)
    hits = [hit for number in sorted(flagged) if (hit := keeper.kept(keeper.audit(ring.keys[number]))) is not None]
    for number in ring.others:
        found, count, doubt = keeper.apart(ring.keys[number])
        n_hypotheses += count
        hits += [found] if found is not None else []
        doubts += [doubt] if doubt is not None else []
    sites = model.sites()
    problems = dict(sorted(suspect.problems.items()))
    return {
        "status": "audited",
        "problem": None,
        "model": {
            "bytes": model.size if suspect.container is None else suspect.source.stat().st_size,
            "producer": model.producer,
            "opset": model.opset,
            "sha256": sha256,
            "converted_from": suspect.container and suspect.container.words,
        },
        "layers": {
            "found": len(sites),
            "audited": len(suspect.touched - set(problems)),
            "skipped": len(sites) - len(suspect.touched | set(problems)),
            "failed": [{"name": name, "problem": problem} for name, problem in problems.items()],
        },
        "n_keys": len(ring) - len(ring.asking),
        "n_hypotheses": n_hypotheses,
        "hits": sorted(hits, key=lambda hit: hit["finding"]["key"]["commitment"]),
        "doubts": sorted(doubts, key=lambda doubt: doubt["key"]),
        **({COMPANIONS: [list(one) for one in suspect.companions]} if suspect.companions else {}),
    }


def _tried(suspect: Suspect, ring: Ring) -> tuple[int, list[dict[str, str]]]:
    """What was tried with the keys of all groups, and which of them may have met a layer that cannot be read."""
    count = 0
    doubts = []
    unknown = {site.name: str(site.problem) for site in suspect.model.sites() if not site.shape}
    suspect.problems.update(unknown)
    for group in ring.groups:
        places = suspect.places(group)
        names = [place.site.name for place in places if place.view is View.STORED]
        bad = [f"{name!r}: {suspect.problems[name]}" for name in (*names, *unknown) if name in suspect.problems]
        for number in group.keys:
            key = ring.keys[number]
            count += SIGNS * (len(places) + _n_normed(key, places))
            if bad:
                reason = f"a layer that may be the carrier cannot be read: {bad[0]}"
                doubts.append({"key": key.commitment, "reason": reason})
    return count, doubts


def _n_normed(key: AnyKey, places: Sequence[Place]) -> int:
    if not isinstance(key, Key) or key.premark is None:
        return 0
    size = key.premark.output_norm.size
    return sum(place.view is View.STORED and place.site.shape[0] == size for place in places)


@dataclass(frozen=True, slots=True, eq=False)
class _Keeper:
    """Audits of one model, and what is kept of them."""

    suspect: Suspect
    level: float

    def audit(self, key: AnyKey) -> Finding:
        return audit_model(self.suspect.model, [key], align=False, schemes=scheme_of).findings[0]

    def kept(self, finding: Finding) -> Result | None:
        """A finding as it is journalled, if its most improbable reading is worth it."""
        signs = scheme_of(finding.key.scheme).signs_tested
        read = [
            (one.evidence.log10_p + math.log10(signs), one)
            for one in finding.candidates
            if one.evidence is not None and one.evidence.degenerate is None
        ]
        if not read:
            return None
        # Without a match an audit shows the layer that the key expects; a reading is kept for its probability.
        least, best = min(read, key=lambda pair: pair[0])
        if least > math.log10(self.level):
            return None
        document = finding_document(replace(finding, best=best))
        return {
            "finding": {name: value for name, value in document.items() if name not in _VERDICTS},
            "log10_p": least - math.log10(signs),
            "digest": _weights_digest(self.suspect, best),
        }

    def apart(self, key: AnyKey) -> tuple[Result | None, int, dict[str, str] | None]:
        """A key that is read by itself: what is kept of it, how many hypotheses it was, and a doubt."""
        finding = self.audit(key)
        self.suspect.touched.update(site.name for one in finding.candidates for site in one.sites)
        hit, doubt = self.kept(finding), None
        if hit is None and finding.verdict is Verdict.INCONCLUSIVE and finding.candidates:
            doubt = {"key": key.commitment, "reason": str(finding.judgement.reason)}
        return hit, finding.judgement.n_hypotheses, doubt


def _weights_digest(suspect: Suspect, best: Candidate) -> str | None:
    """SHA-256 of the stored weights behind a reading, so that copies of a layer are known as such."""
    if not best.sites:
        return None
    found = hashlib.sha256()
    for site in best.sites:
        layer = suspect.model.read(site)
        found.update(f"{layer.shape}|".encode() + np.ascontiguousarray(layer.values).tobytes())
    return found.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
