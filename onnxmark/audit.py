"""Is this key's mark in this model? A pure function of weights, keys and policy.

Every layer whose shape fits a key is read, whatever its name says: exporters rename, fold and duplicate layers. What is
tried is counted first and corrected for afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from onnxmark.arrays import Float32Array
from onnxmark.errors import CarrierError, ModelError
from onnxmark.keys import AnyKey, Key
from onnxmark.model import Model, WeightSite, open_model
from onnxmark.schemes.evidence import Evidence, Scheme
from onnxmark.schemes.extraction import ProjectionScheme
from onnxmark.schemes.projection import Reading
from onnxmark.verdict import Judgement, Policy, Standing, Verdict, inconclusive, judge, overall
from onnxmark.views import View, look, norms_before, views_of
from onnxmark.weights import WeightTensor

Schemes = Callable[[str], Scheme]
Progress = Callable[[int, int], None]
"""Called with (layers read, layers to read)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One reading of one view of one layer with one key.

    Args:
        site: The layer.
        view: How it was looked at.
        reading: How it was read.
        why: Why this layer is a candidate, best reason first.
        evidence: What was read; None where the layer cannot be read.
        problem: Why it cannot be read.
    """

    site: WeightSite
    view: View
    reading: Reading
    why: str
    evidence: Evidence | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer for one key.

    Args:
        key: The key.
        standing: What a match with it is worth.
        judgement: The verdict and its figures.
        best: The candidate the verdict rests on; None where there was none.
        candidates: Every candidate, in the order in which the key would expect its carrier.
    """

    key: AnyKey
    standing: Standing
    judgement: Judgement
    best: Candidate | None
    candidates: tuple[Candidate, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.judgement.verdict


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What identifies the model audited."""

    path: str
    size: int
    producer: str
    opset: int | None
    n_layers: int
    unknown: tuple[WeightSite, ...]
    """Layers whose shape cannot be told, so that no key can be tried on them."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Findings of several keys in one model."""

    model: ModelFacts
    policy: Policy
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """A match anywhere, else a doubt anywhere, else no match."""
        return overall([finding.verdict for finding in self.findings])


def projection_only(name: str) -> Scheme:
    """The schemes known without looking at plugins."""
    if name != ProjectionScheme.name:
        raise CarrierError(f"the key is of scheme {name!r}, which is not loaded here")
    return ProjectionScheme()


def audit_file(
    path: Path | str,
    keys: Sequence[AnyKey],
    policy: Policy | None = None,
    *,
    layer: str | None = None,
    reference: Path | str | None = None,
    schemes: Schemes = projection_only,
    progress: Progress | None = None,
) -> Audit:
    """Audit the model in a file, perhaps with the file it was before marking; see :func:`audit_model`."""
    with ExitStack() as stack:
        model = stack.enter_context(open_model(path))
        before = None if reference is None else stack.enter_context(open_model(reference))
        return audit_model(model, keys, policy, layer=layer, reference=before, schemes=schemes, progress=progress)


def audit_model(
    model: Model,
    keys: Sequence[AnyKey],
    policy: Policy | None = None,
    *,
    layer: str | None = None,
    reference: Model | None = None,
    schemes: Schemes = projection_only,
    progress: Progress | None = None,
) -> Audit:
    """Look for the mark of each key in a model.

    Args:
        model: An open model.
        keys: One key or more.
        policy: What is asked of a reading; the default is alpha 1e-6 for unregistered keys.
        layer: Read this layer only, by the name of its weights or of its node.
        reference: The model before it was marked: its filters' norms are restored as one more view.
        schemes: Gives the scheme of a name.
        progress: Told how far the reading is.

    Raises:
        CarrierError: ``layer`` is not in the model, or the reference lacks a key's layer.
        ModelError: The model cannot be listed.
        KeyFileError: A key's parameters make no sense.
    """
    policy = policy or Policy()
    sites = model.sites()
    chosen = sites if layer is None else named_sites(sites, layer)
    norms = [norms_before(key, reference) for key in keys]
    plans = [_plan(model, key, chosen, schemes(key.scheme), before) for key, before in zip(keys, norms, strict=True)]
    n_hypotheses = sum(len(plan) * schemes(key.scheme).signs_tested for key, plan in zip(keys, plans, strict=True))
    read = _read_all(model, keys, plans, norms, schemes, progress)
    unknown = tuple(site for site in chosen if not site.shape)
    findings = tuple(
        _finding(key, candidates, unknown, n_hypotheses, policy) for key, candidates in zip(keys, read, strict=True)
    )
    facts = ModelFacts(
        path=str(model.path),
        size=model.size,
        producer=model.producer,
        opset=model.opset,
        n_layers=len(sites),
        unknown=unknown,
    )
    return Audit(facts, policy, findings)


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


def _plan(
    model: Model, key: AnyKey, sites: Sequence[WeightSite], scheme: Scheme, norms: Float32Array | None
) -> list[Candidate]:
    """Every fitting layer, view and reading, in the order in which the key would expect its carrier."""
    candidates = [
        Candidate(site, view, reading, _why(key, site))
        for site in sites
        if site.shape
        for reading in scheme.readings(key, site.shape)
        for view in views_of(model, site, norms)
    ]
    return sorted(candidates, key=lambda candidate: _REASONS.index(candidate.why))


_REASONS = ("same name and shape", "same node and shape", "same position and shape", "same shape")


def _why(key: AnyKey, site: WeightSite) -> str:
    if isinstance(key, Key):
        if key.carrier.name and key.carrier.name == site.name:
            return _REASONS[0]
        if key.carrier.node and key.carrier.node in site.nodes:
            return _REASONS[1]
        if key.carrier.position == site.position:
            return _REASONS[2]
    return _REASONS[3]


def _read_all(
    model: Model,
    keys: Sequence[AnyKey],
    plans: list[list[Candidate]],
    norms: list[Float32Array | None],
    schemes: Schemes,
    progress: Progress | None,
) -> list[tuple[Candidate, ...]]:
    """Fill in the evidence, layer by layer, so that only one layer's weights are in memory."""
    jobs: dict[str, list[tuple[int, int]]] = {}
    for number, plan in enumerate(plans):
        for index, candidate in enumerate(plan):
            jobs.setdefault(candidate.site.name, []).append((number, index))
    done = [list(plan) for plan in plans]
    for count, places in enumerate(jobs.values()):
        if progress is not None:
            progress(count, len(jobs))
        first = plans[places[0][0]][places[0][1]]
        weights = _weights(model, first.site)
        for number, index in places:
            key = keys[number]
            done[number][index] = _read(model, key, plans[number][index], weights, norms[number], schemes(key.scheme))
    if progress is not None:
        progress(len(jobs), len(jobs))
    return [tuple(plan) for plan in done]


def _weights(model: Model, site: WeightSite) -> WeightTensor | str:
    """The weights, or why they cannot be read."""
    try:
        return model.read(site)
    except ModelError as error:
        return str(error)


def _read(
    model: Model,
    key: AnyKey,
    candidate: Candidate,
    weights: WeightTensor | str,
    norms: Float32Array | None,
    scheme: Scheme,
) -> Candidate:
    if isinstance(weights, str):
        return replace(candidate, problem=weights)
    try:
        seen = look(model, candidate.site, candidate.view, weights, norms)
    except ModelError as error:
        return replace(candidate, problem=str(error))
    return replace(candidate, evidence=scheme.extract(key, seen, candidate.reading))


def seen_weights(model: Model, finding: Finding, reference: Model | None = None) -> WeightTensor:
    """The weights behind a finding, as they were looked at.

    Raises:
        CarrierError: The finding has no carrier.
        ModelError: The weights cannot be read.
    """
    if finding.best is None:
        raise CarrierError("the finding has no carrier")
    norms = norms_before(finding.key, reference)
    return look(model, finding.best.site, finding.best.view, model.read(finding.best.site), norms)


def _finding(
    key: AnyKey,
    candidates: tuple[Candidate, ...],
    unknown: tuple[WeightSite, ...],
    n_hypotheses: int,
    policy: Policy,
) -> Finding:
    """The answer for one key, given its candidates and the layers of unknown shape that might have been among them."""
    standing = policy.standing(key.origin)
    if not candidates:
        wanted = "x".join(map(str, key.carrier.shape)) if isinstance(key, Key) else "x".join(map(str, key.matrix.shape))
        reason = f"no layer fits the key (made for {wanted}); 'onnxmark inspect' lists the layers"
        return Finding(key, standing, inconclusive(reason, n_hypotheses), None, ())
    judged = [
        (candidate, judge(candidate.evidence, n_hypotheses, policy))
        for candidate in candidates
        if candidate.evidence is not None
    ]
    conclusive = [pair for pair in judged if pair[1].verdict is not Verdict.INCONCLUSIVE]
    doubts = [candidate.problem for candidate in candidates if candidate.problem is not None]
    doubts += [judgement.reason for _, judgement in judged if judgement.reason is not None]
    doubts += [f"{site.name!r}: {site.problem}" for site in unknown]
    if not conclusive:
        return Finding(key, standing, inconclusive(str(doubts[0]), n_hypotheses), candidates[0], candidates)
    matches = [pair for pair in conclusive if pair[1].verdict is Verdict.MATCH]
    if matches:
        best, judgement = min(matches, key=lambda pair: pair[1].log10_p_value)
        return Finding(key, standing, judgement, best, candidates)
    # Without a match, show the layer the key expects, not whichever came nearest by chance.
    best, judgement = conclusive[0]
    if all(candidate.reading.resized for candidate, _ in conclusive):
        # Kernels of another size are tried for the sake of enlarged ones; that they do not match says little.
        judgement = inconclusive("no layer has the key's shape, and kernels of other sizes do not match", n_hypotheses)
    elif doubts:
        # A layer that cannot be read may be the very carrier: "no match" would claim too much.
        judgement = inconclusive(f"a layer that may be the carrier cannot be read: {doubts[0]}", n_hypotheses)
    return Finding(key, standing, judgement, best, candidates)
