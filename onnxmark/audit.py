"""Is this key's mark in this model? A pure function of weights, keys and policy.

Every layer whose shape fits a key is read, whatever its name says: exporters rename, fold and duplicate layers. What is
tried is counted first and corrected for afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxmark.errors import CarrierError, ModelError
from onnxmark.keys import AnyKey, Key
from onnxmark.model import Model, WeightSite, open_model
from onnxmark.schemes.evidence import Evidence, Scheme
from onnxmark.schemes.extraction import ProjectionScheme
from onnxmark.schemes.projection import Reading
from onnxmark.verdict import Judgement, Policy, Standing, Verdict, inconclusive, judge, overall

Schemes = Callable[[str], Scheme]
Progress = Callable[[int, int], None]
"""Called with (layers read, layers to read)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One reading of one layer with one key.

    Args:
        site: The layer.
        reading: How it was read.
        why: Why this layer is a candidate, best reason first.
        evidence: What was read; None where the layer cannot be read.
        problem: Why it cannot be read.
    """

    site: WeightSite
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
    schemes: Schemes = projection_only,
    progress: Progress | None = None,
) -> Audit:
    """Audit the model in a file; see :func:`audit_model`."""
    with open_model(path) as model:
        return audit_model(model, keys, policy, layer=layer, schemes=schemes, progress=progress)


def audit_model(
    model: Model,
    keys: Sequence[AnyKey],
    policy: Policy | None = None,
    *,
    layer: str | None = None,
    schemes: Schemes = projection_only,
    progress: Progress | None = None,
) -> Audit:
    """Look for the mark of each key in a model.

    Args:
        model: An open model.
        keys: One key or more.
        policy: What is asked of a reading; the default is alpha 1e-6 for unregistered keys.
        layer: Read this layer only, by the name of its weights or of its node.
        schemes: Gives the scheme of a name.
        progress: Told how far the reading is.

    Raises:
        CarrierError: ``layer`` is not in the model.
        ModelError: The model cannot be listed.
        KeyFileError: A key's parameters make no sense.
    """
    policy = policy or Policy()
    sites = model.sites()
    chosen = sites if layer is None else named_sites(sites, layer)
    plans = [_plan(key, chosen, schemes(key.scheme)) for key in keys]
    n_hypotheses = sum(len(plan) * schemes(key.scheme).signs_tested for key, plan in zip(keys, plans, strict=True))
    read = _read_all(model, keys, plans, schemes, progress)
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


def _plan(key: AnyKey, sites: Sequence[WeightSite], scheme: Scheme) -> list[Candidate]:
    """Every fitting layer and reading, in the order in which the key would expect its carrier."""
    candidates = [
        Candidate(site, reading, _why(key, site))
        for site in sites
        if site.shape
        for reading in scheme.readings(key, site.shape)
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
    model: Model, keys: Sequence[AnyKey], plans: list[list[Candidate]], schemes: Schemes, progress: Progress | None
) -> list[tuple[Candidate, ...]]:
    """Fill in the evidence, layer by layer, so that only one layer's weights are in memory."""
    sites = {candidate.site.name: candidate.site for plan in plans for candidate in plan}
    evidence: dict[tuple[int, int], Evidence | str] = {}
    for count, site in enumerate(sites.values()):
        if progress is not None:
            progress(count, len(sites))
        try:
            weights = model.read(site)
        except ModelError as error:
            weights, problem = None, str(error)
        for key_index, (key, plan) in enumerate(zip(keys, plans, strict=True)):
            for index, candidate in enumerate(plan):
                if candidate.site.name == site.name:
                    evidence[key_index, index] = (
                        problem if weights is None else schemes(key.scheme).extract(key, weights, candidate.reading)
                    )
    if progress is not None:
        progress(len(sites), len(sites))
    return [
        tuple(_with(candidate, evidence[key_index, index]) for index, candidate in enumerate(plan))
        for key_index, plan in enumerate(plans)
    ]


def _with(candidate: Candidate, evidence: Evidence | str) -> Candidate:
    if isinstance(evidence, str):
        return Candidate(candidate.site, candidate.reading, candidate.why, problem=evidence)
    return Candidate(candidate.site, candidate.reading, candidate.why, evidence=evidence)


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
    if doubts:
        # A layer that cannot be read may be the very carrier: "no match" would claim too much.
        judgement = inconclusive(f"a layer that may be the carrier cannot be read: {doubts[0]}", n_hypotheses)
    return Finding(key, standing, judgement, best, candidates)
