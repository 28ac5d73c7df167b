"""An audit: plan what to read, count it, read it, conclude."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from onnxmark.audit.answers import Oracle, read_answers
from onnxmark.audit.findings import Audit, Candidate, Finding, ModelFacts, conclude
from onnxmark.audit.layers import Progress, Reader, named_sites, plan, read_all
from onnxmark.audit.schemes import Schemes, built_in
from onnxmark.audit.widths import read_widths
from onnxmark.errors import CarrierError, KeyFileError
from onnxmark.keys import AnyKey, Key
from onnxmark.model import Model, WeightSite, open_model
from onnxmark.recovery import Past
from onnxmark.schemes.scheme import AnswerScheme, Reads, Scheme, WeightScheme, WidthScheme
from onnxmark.verdict import Policy
from onnxmark.views import View, look
from onnxmark.weights import WeightTensor


def audit_file(
    path: Path | str,
    keys: Sequence[AnyKey],
    policy: Policy | None = None,
    *,
    layer: str | None = None,
    oracle: Oracle | None = None,
    align: bool = True,
    schemes: Schemes = built_in,
    progress: Progress | None = None,
) -> Audit:
    """Audit the model in a file; see :func:`audit_model`."""
    with open_model(path) as model:
        return audit_model(
            model, keys, policy, layer=layer, oracle=oracle, align=align, schemes=schemes, progress=progress
        )


def audit_model(
    model: Model,
    keys: Sequence[AnyKey],
    policy: Policy | None = None,
    *,
    layer: str | None = None,
    oracle: Oracle | None = None,
    align: bool = True,
    schemes: Schemes = built_in,
    progress: Progress | None = None,
) -> Audit:
    """Look for the mark of each key in a model.

    Args:
        model: An open model.
        keys: One key or more.
        policy: What is asked of a reading; the default is alpha 1e-6 for unregistered keys.
        layer: Read this layer only, by the name of its weights or of its node.
        oracle: Runs the model for keys that ask it; without it, such keys are inconclusive.
        align: Match channels with what a key remembers of its layer (:mod:`onnxmark.recovery`), as one more view.
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
    used = [schemes(key.scheme) for key in keys]
    read = _read(model, keys, used, chosen, oracle, progress, align=align)
    n_hypotheses = sum(len(found) * scheme.signs_tested for found, scheme in zip(read, used, strict=True))
    unknown = tuple(site for site in chosen if not site.shape)
    findings = tuple(
        conclude(key, found, unknown if scheme.reads is not Reads.ANSWERS else (), n_hypotheses, policy)
        for key, found, scheme in zip(keys, read, used, strict=True)
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


def _read(
    model: Model,
    keys: Sequence[AnyKey],
    schemes: Sequence[Scheme],
    sites: Sequence[WeightSite],
    oracle: Oracle | None,
    progress: Progress | None,
    *,
    align: bool,
) -> list[tuple[Candidate, ...]]:
    """For each key what was read; keys that read weights together, so that every layer is read once."""
    found: dict[int, tuple[Candidate, ...]] = {}
    readers: dict[int, Reader] = {}
    for number, (key, scheme) in enumerate(zip(keys, schemes, strict=True)):
        if scheme.reads is Reads.WEIGHTS:
            readers[number] = Reader(key, cast("WeightScheme", scheme), Past.of(key))
        elif not isinstance(key, Key):
            raise KeyFileError(f"a bare matrix cannot be read by scheme {scheme.name!r}")
        elif scheme.reads is Reads.WIDTHS:
            found[number] = read_widths(key, sites, cast("WidthScheme", scheme))
        else:
            found[number] = read_answers(key, oracle, cast("AnswerScheme", scheme))
    plans = [plan(model, reader, sites, align=align) for reader in readers.values()]
    filled = read_all(model, list(readers.values()), plans, progress)
    found |= dict(zip(readers, filled, strict=True))
    return [found[number] for number in range(len(keys))]


def seen_weights(model: Model, finding: Finding) -> tuple[WeightTensor, ...]:
    """The weights behind a finding, as they were looked at; none behind one that the model's answers gave.

    Layers whose channels were matched with the past come as they are stored: what is done to them next is done to the
    suspect, and whoever reads them matches anew (:func:`onnxmark.recovery.recovered`).

    Raises:
        CarrierError: The finding has no carrier.
        ModelError: The weights cannot be read.
    """
    if finding.best is None:
        raise CarrierError("the finding has no carrier")
    weights = tuple(model.read(site) for site in finding.best.sites)
    if finding.best.view is View.ALIGNED:
        return weights
    return look(model, finding.best.sites, finding.best.view, weights, Past.of(finding.key))
