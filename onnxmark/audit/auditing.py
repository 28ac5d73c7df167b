"""An audit: plan what to read, count it, read it, conclude."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from onnxmark.arrays import Float32Array
from onnxmark.audit.answers import Oracle, read_answers
from onnxmark.audit.findings import Audit, Candidate, Finding, ModelFacts, conclude
from onnxmark.audit.layers import Progress, named_sites, plan, read_all
from onnxmark.audit.schemes import Schemes, built_in
from onnxmark.audit.widths import read_widths
from onnxmark.errors import CarrierError, KeyFileError
from onnxmark.keys import AnyKey, Key
from onnxmark.model import Model, WeightSite, open_model
from onnxmark.schemes.scheme import AnswerScheme, Reads, Scheme, WeightScheme, WidthScheme
from onnxmark.verdict import Policy
from onnxmark.views import look, norms_before
from onnxmark.weights import WeightTensor


def audit_file(
    path: Path | str,
    keys: Sequence[AnyKey],
    policy: Policy | None = None,
    *,
    layer: str | None = None,
    reference: Path | str | None = None,
    oracle: Oracle | None = None,
    schemes: Schemes = built_in,
    progress: Progress | None = None,
) -> Audit:
    """Audit the model in a file, perhaps with the file it was before marking; see :func:`audit_model`."""
    with ExitStack() as stack:
        model = stack.enter_context(open_model(path))
        before = None if reference is None else stack.enter_context(open_model(reference))
        return audit_model(
            model, keys, policy, layer=layer, reference=before, oracle=oracle, schemes=schemes, progress=progress
        )


def audit_model(
    model: Model,
    keys: Sequence[AnyKey],
    policy: Policy | None = None,
    *,
    layer: str | None = None,
    reference: Model | None = None,
    oracle: Oracle | None = None,
    schemes: Schemes = built_in,
    progress: Progress | None = None,
) -> Audit:
    """Look for the mark of each key in a model.

    Args:
        model: An open model.
        keys: One key or more.
        policy: What is asked of a reading; the default is alpha 1e-6 for unregistered keys.
        layer: Read this layer only, by the name of its weights or of its node.
        reference: The model before it was marked: its filters' norms are restored as one more view.
        oracle: Runs the model for keys that ask it; without it, such keys are inconclusive.
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
    used = [schemes(key.scheme) for key in keys]
    read = _read(model, keys, used, chosen, reference, oracle, progress)
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
    reference: Model | None,
    oracle: Oracle | None,
    progress: Progress | None,
) -> list[tuple[Candidate, ...]]:
    """For each key what was read; keys that read weights together, so that every layer is read once."""
    found: dict[int, tuple[Candidate, ...]] = {}
    readers: dict[int, tuple[AnyKey, WeightScheme, Float32Array | None]] = {}
    for number, (key, scheme) in enumerate(zip(keys, schemes, strict=True)):
        if scheme.reads is Reads.WEIGHTS:
            readers[number] = (key, cast("WeightScheme", scheme), norms_before(key, reference))
        elif not isinstance(key, Key):
            raise KeyFileError(f"a bare matrix cannot be read by scheme {scheme.name!r}")
        elif scheme.reads is Reads.WIDTHS:
            found[number] = read_widths(key, sites, cast("WidthScheme", scheme))
        else:
            found[number] = read_answers(key, oracle, cast("AnswerScheme", scheme))
    own = list(readers.values())
    plans = [plan(model, key, sites, scheme, norms) for key, scheme, norms in own]
    filled = read_all(model, [o[0] for o in own], plans, [o[2] for o in own], [o[1] for o in own], progress)
    found |= dict(zip(readers, filled, strict=True))
    return [found[number] for number in range(len(keys))]


def seen_weights(model: Model, finding: Finding, reference: Model | None = None) -> tuple[WeightTensor, ...]:
    """The weights behind a finding, as they were looked at; none behind one that the model's answers gave.

    Raises:
        CarrierError: The finding has no carrier.
        ModelError: The weights cannot be read.
    """
    if finding.best is None:
        raise CarrierError("the finding has no carrier")
    norms = norms_before(finding.key, reference)
    weights = tuple(model.read(site) for site in finding.best.sites)
    return look(model, finding.best.sites, finding.best.view, weights, norms)
