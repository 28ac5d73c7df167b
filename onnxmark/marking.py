"""Mark a finished ONNX file: change as little as the key's scheme needs, write a copy, read the copy back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from onnxmark.arrays import Float64Array
from onnxmark.audit import Schemes, built_in, named_sites
from onnxmark.audit.findings import wanted
from onnxmark.audit.layers import Reader, plan
from onnxmark.audit.matching import assignments
from onnxmark.errors import CarrierError, EmbeddingError
from onnxmark.keys import AnyKey, Key
from onnxmark.model import Model, WeightSite, open_model, write_model
from onnxmark.model.channels.narrowing import narrow
from onnxmark.model.editing.editable import EditableModel
from onnxmark.model.running.calibration import Calibration, load_calibration
from onnxmark.model.running.runtime import Fidelity, fidelity
from onnxmark.model.running.taps import input_second_moment
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.scheme import Embedded, EmbeddingMeans, Reading, Reads, WeightScheme, WidthScheme
from onnxmark.weights import WeightTensor


@dataclass(frozen=True, slots=True, eq=False)
class Marking:
    """What embedding a mark into a file did.

    Args:
        key: The key.
        sites: The layers marked.
        kind: What the key reads of them.
        metric: What the change was minimal in, in words.
        margin_asked: Margin asked for; None where a mark is no matter of degree.
        margin_solved: Smallest margin of the change as solved.
        margin_reached: Smallest margin read back from the file written; quantised storage rounds it.
        relative_change: Norm of the change of the layers over their norm; None where their shapes changed.
        std_ratio: Standard deviation of the weights, after over before: what Wang and Kerschbaum's detector looks at.
        evidence: The reading of the file written.
        fidelity: How far the outputs moved; None without calibration inputs.
    """

    key: AnyKey
    sites: tuple[WeightSite, ...]
    kind: str
    metric: str
    margin_asked: float | None
    margin_solved: float | None
    margin_reached: float | None
    relative_change: float | None
    std_ratio: float | None
    evidence: Evidence
    fidelity: Fidelity | None


def embed_file(
    path: Path,
    key: AnyKey,
    output: Path,
    *,
    margin: float | None = None,
    calibration: Path | None = None,
    layer: str | None = None,
    schemes: Schemes = built_in,
) -> Marking:
    """Embed a key's message into a copy of a model.

    Args:
        path: The model; left as it is.
        key: The key.
        output: Where the marked copy goes.
        margin: How surely each symbol is to be read, in the unit of the scheme's margins; None takes its default.
        calibration: Model inputs (.npz); a change of weights is then minimal in what the layer's inputs see of it,
            where the scheme knows how, and what it does to the outputs is measured.
        layer: The layer to mark; by default the one the key was made for.
        schemes: Gives the scheme of a name.

    Raises:
        CarrierError: No layer fits the key, or several do and none is the key's own.
        EmbeddingError: The message does not fit, storing the layer destroyed it, or the scheme needs training.
        CalibrationError: The inputs do not fit the model.
        ModelError: The model cannot be read or written.
    """
    scheme = schemes(key.scheme)
    inputs = None if calibration is None else load_calibration(calibration)
    if scheme.reads is Reads.WEIGHTS:
        return _mark_weights(path, key, output, cast("WeightScheme", scheme), margin, inputs, layer)
    if scheme.reads is Reads.WIDTHS and isinstance(key, Key):
        return _mark_widths(path, key, output, cast("WidthScheme", scheme), inputs)
    raise EmbeddingError(
        f"a mark of scheme {key.scheme!r} is trained into a model and cannot be written into a finished file; train "
        "with the framework's adapter"
    )


def _mark_weights(
    path: Path,
    key: AnyKey,
    output: Path,
    scheme: WeightScheme,
    margin: float | None,
    inputs: Calibration | None,
    layer: str | None,
) -> Marking:
    with open_model(path) as model:
        sites, reading = _target(model, key, scheme, layer)
        before = tuple(model.read(site) for site in sites)

    def moments() -> tuple[Float64Array, ...]:
        assert inputs is not None
        return tuple(input_second_moment(path, site.name, inputs) for site in sites)

    embedded = scheme.embed(key, before, reading, EmbeddingMeans(margin, None if inputs is None else moments))
    write_model(path, {layer.name: layer.values for layer in embedded.layers}, output)
    evidence = _read_back(output, key, sites, reading, scheme)
    if evidence.n_errors:
        raise EmbeddingError(
            f"{evidence.n_errors} of {evidence.n_symbols} {evidence.symbol}s were lost when the layer was stored as "
            f"{sites[0].stored}; do not use {str(output)!r}: embed before quantising, or ask for a larger --margin"
        )
    return Marking(
        key=key,
        sites=sites,
        kind=reading.kind,
        metric=embedded.metric,
        margin_asked=embedded.asked,
        margin_solved=embedded.solved,
        margin_reached=float(evidence.margins.min()),
        relative_change=_relative_change(before, embedded),
        std_ratio=_deviation(embedded.layers) / _deviation(before),
        evidence=evidence,
        fidelity=None if inputs is None else fidelity(path, output, inputs),
    )


def _mark_widths(path: Path, key: Key, output: Path, scheme: WidthScheme, inputs: Calibration | None) -> Marking:
    """Prune the key's layers to the widths that carry its message."""
    with open_model(path) as model:
        found = [layers for layers, _ in assignments(key.carriers, model.sites())]
    if not found:
        raise CarrierError(f"the model has not the layers the key was made for ({wanted(key)}); make a key for it")
    names = [site.name for site in found[0]]
    editable = EditableModel.load(path)
    narrow(editable, dict(zip(names, scheme.widths(key), strict=True)))
    editable.save(output)
    with open_model(output) as model:
        written = model.sites()
    sites = tuple(named_sites(written, name)[0] for name in names)
    evidence = scheme.extract(key, tuple(site.shape[0] for site in sites))
    if evidence.n_errors:
        raise EmbeddingError(
            f"{evidence.n_errors} of {evidence.n_symbols} widths did not come out; do not use {str(output)!r}"
        )
    return Marking(
        key=key,
        sites=sites,
        kind="widths",
        metric="channels of smallest L1 norm removed",
        margin_asked=None,
        margin_solved=None,
        margin_reached=None,
        relative_change=None,
        std_ratio=None,
        evidence=evidence,
        fidelity=None if inputs is None else fidelity(path, output, inputs),
    )


def _target(
    model: Model, key: AnyKey, scheme: WeightScheme, layer: str | None
) -> tuple[tuple[WeightSite, ...], Reading]:
    """The layers to mark: unlike an audit, embedding must not guess."""
    sites = model.sites() if layer is None else named_sites(model.sites(), layer)
    planned = plan(model, Reader(key, scheme), sites, align=False)
    fitting = [candidate for candidate in planned if not candidate.reading.resized]
    if not fitting:
        raise CarrierError(f"no layer fits the key (made for {wanted(key)}); make a key for this model")
    if isinstance(key, Key):
        own = [candidate for candidate in fitting if candidate.why == fitting[0].why]
        fitting = own if _is_own(key, fitting[0].sites) else fitting
    if len({candidate.sites for candidate in fitting}) > 1:
        names = ", ".join(repr(candidate.name) for candidate in fitting[:4])
        raise CarrierError(f"several layers fit the key ({names}); name the one to mark with --layer")
    return fitting[0].sites, fitting[0].reading


def _is_own(key: Key, sites: Sequence[WeightSite]) -> bool:
    """Whether the layers bear the names that the key remembers."""
    pairs = zip(key.carriers, sites, strict=True)
    return all(carrier.name == site.name or carrier.node in site.nodes for carrier, site in pairs)


def _read_back(
    output: Path, key: AnyKey, sites: Sequence[WeightSite], reading: Reading, scheme: WeightScheme
) -> Evidence:
    with open_model(output) as model:
        found = model.sites()
        written = tuple(model.read(named_sites(found, site.name)[0]) for site in sites)
    return scheme.extract(key, written, reading)


def _relative_change(before: Sequence[WeightTensor], embedded: Embedded) -> float:
    pairs = [(old.values, new.values) for old, new in zip(before, embedded.layers, strict=True)]
    change = sum(float(np.sum(np.square(new.astype(np.float64) - old))) for old, new in pairs)
    norm = sum(float(np.sum(np.square(old.astype(np.float64)))) for old, _ in pairs)
    return float(np.sqrt(change / norm))


def _deviation(layers: Sequence[WeightTensor]) -> float:
    return float(np.concatenate([layer.values.reshape(-1) for layer in layers]).std(dtype=np.float64))
