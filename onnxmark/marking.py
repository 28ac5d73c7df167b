"""Mark a finished ONNX file: read the carrier, move it as little as possible, write a copy, read the copy back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnxmark.audit import named_sites
from onnxmark.embedding import ActivationMetric, Embedding, embed_message
from onnxmark.errors import CarrierError, EmbeddingError
from onnxmark.keys import AnyKey, Key
from onnxmark.model import Model, WeightSite, open_model, write_model
from onnxmark.model.running.calibration import load_calibration
from onnxmark.model.running.runtime import Fidelity, fidelity
from onnxmark.model.running.taps import input_second_moment
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.extraction import ProjectionScheme, read_message
from onnxmark.schemes.projection import Projection, Reading, projection_of


@dataclass(frozen=True, slots=True, eq=False)
class Marking:
    """What embedding a mark into a file did.

    Args:
        site: The layer marked.
        kind: Kind of carrier.
        commitment: The key's commitment.
        embedding: The change as solved.
        metric: What the change was minimal in, in words.
        margin_asked: Margin asked for.
        margin_reached: Smallest margin read back from the file written; quantised storage rounds it.
        evidence: The reading of the file written.
        fidelity: How far the outputs moved; None without calibration inputs.
    """

    site: WeightSite
    kind: str
    commitment: str
    embedding: Embedding
    metric: str
    margin_asked: float
    margin_reached: float
    evidence: Evidence
    fidelity: Fidelity | None


def embed_file(
    path: Path,
    key: AnyKey,
    output: Path,
    *,
    margin: float = 2.0,
    calibration: Path | None = None,
    layer: str | None = None,
) -> Marking:
    """Embed a key's message into a copy of a model.

    Args:
        path: The model; left as it is.
        key: The key.
        output: Where the marked copy goes.
        margin: Margin of every bit, in standard deviations of a random key's score.
        calibration: Model inputs (.npz); the change is then minimal in what the layer's inputs see of it.
        layer: The layer to mark; by default the one the key was made for.

    Raises:
        CarrierError: No layer fits the key, or several do and none is the key's own.
        EmbeddingError: The message does not fit, or storing the layer destroyed it.
        CalibrationError: The inputs do not fit the model.
        ModelError: The model cannot be read or written.
    """
    with open_model(path) as model:
        site, reading = _target(model, key, layer)
        weights = model.read(site)
    projection = projection_of(key, reading)
    inputs = None if calibration is None else load_calibration(calibration)
    metric = None if inputs is None else ActivationMetric(input_second_moment(path, site.name, inputs))
    embedding = embed_message(weights, projection, margin, metric)
    write_model(path, {site.name: embedding.weights.values}, output)
    evidence = _read_back(output, site, projection, fair=isinstance(key, Key))
    if evidence.n_errors:
        raise EmbeddingError(
            f"{evidence.n_errors} of {evidence.n_bits} bits were lost when the layer was stored as {site.stored}; "
            f"do not use {str(output)!r}: embed before quantising, or ask for a larger --margin"
        )
    return Marking(
        site=site,
        kind=reading.kind,
        commitment=key.commitment,
        embedding=embedding,
        metric="change of the weights" if metric is None else "change of the layer's output on the calibration inputs",
        margin_asked=margin,
        margin_reached=float(evidence.margins.min()),
        evidence=evidence,
        fidelity=None if inputs is None else fidelity(path, output, inputs),
    )


def _target(model: Model, key: AnyKey, layer: str | None) -> tuple[WeightSite, Reading]:
    """The one layer to mark: unlike an audit, embedding must not guess."""
    scheme = ProjectionScheme()
    sites = model.sites() if layer is None else named_sites(model.sites(), layer)
    fitting = [(site, reading) for site in sites for reading in scheme.readings(key, site.shape) if not reading.resized]
    if not fitting:
        wanted = key.carrier.shape if isinstance(key, Key) else key.matrix.shape
        raise CarrierError(f"no layer fits the key (made for {'x'.join(map(str, wanted))}); make a key for this model")
    if len(fitting) > 1 and isinstance(key, Key):
        own = [pair for pair in fitting if pair[0].name == key.carrier.name or key.carrier.node in pair[0].nodes]
        fitting = own or fitting
    if len({site.name for site, _ in fitting}) > 1:
        names = ", ".join(repr(site.name) for site, _ in fitting[:4])
        raise CarrierError(f"several layers fit the key ({names}); name the one to mark with --layer")
    return fitting[0]


def _read_back(output: Path, site: WeightSite, projection: Projection, *, fair: bool) -> Evidence:
    with open_model(output) as model:
        written = model.read(named_sites(model.sites(), site.name)[0])
    return read_message(projection, written, fair=fair)
