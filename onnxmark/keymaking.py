"""Make a key for a model: pick its layers, record them, and refuse what cannot work before it costs a training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnxmark.arrays import AnyArray, BitArray, Float64Array
from onnxmark.audit import named_sites
from onnxmark.errors import CalibrationError, CarrierError
from onnxmark.keys import Carrier, Key
from onnxmark.model import WeightSite, open_model
from onnxmark.model.channels.eligible import eligible_layers
from onnxmark.model.editing.editable import EditableModel
from onnxmark.model.running.asking import ask
from onnxmark.model.running.calibration import load_array
from onnxmark.schemes.answers.ingrain import IngrainOptions, IngrainScheme
from onnxmark.schemes.answers.trigger import TriggerOptions, TriggerScheme
from onnxmark.schemes.projection.projection import Generator
from onnxmark.schemes.projection.scheme import ProjectionOptions, ProjectionScheme
from onnxmark.schemes.scheme import Layer
from onnxmark.weights import WeightTensor

COMFORTABLE_ENTRIES_PER_BIT = 10
"""T/M <= 0.1 leaves room for a margin of three standard deviations (statistics of random half-spaces)."""


def make_key(
    carrier: Carrier,
    payload: BitArray,
    *,
    generator: Generator = "rademacher",
    kind: str | None = None,
    premark: WeightTensor | None = None,
) -> Key:
    """A fresh projection key for a layer.

    Args:
        carrier: The layer.
        payload: The owner's bits, shape (T,).
        generator: How rows are drawn.
        kind: Kind of carrier; by default the full tensor, or a keyed fold of it where it is large.
        premark: The layer before marking, whose signature the key then keeps.

    Raises:
        KeyFileError: The generator or carrier does not fit the layer.
    """
    options = ProjectionOptions(generator, kind)
    return ProjectionScheme().make_key([Layer(carrier, premark)], payload, options)


def weight_layers(path: Path, names: Sequence[str], n_bits: int) -> tuple[Layer, ...]:
    """Layers of a model for a key that reads their weights, as they are now.

    Args:
        path: The model before it is marked.
        names: Names of their weights or nodes; where there are none, the layer best suited to the message is taken.
        n_bits: Length of the message.

    Raises:
        CarrierError: There is no such layer, or none has room.
        ModelError: The model or a layer cannot be read.
    """
    with open_model(path) as model:
        sites = model.sites()
        chosen = [named_sites(sites, name)[0] for name in dict.fromkeys(names)] or [suggest_site(sites, n_bits)]
        return tuple(Layer(carrier_of(site), model.read(site)) for site in chosen)


def width_layers(path: Path, names: Sequence[str] = ()) -> tuple[Layer, ...]:
    """Layers of a model whose number of channels can be changed, in graph order.

    Args:
        path: The model before it is marked.
        names: Names of their weights or nodes; all that there are by default.

    Raises:
        CarrierError: There is none, or a layer named is none of them.
        ModelError: The model cannot be read.
    """
    eligible = {layer.name for layer in eligible_layers(EditableModel.load(path))}
    with open_model(path) as model:
        sites = model.sites()
        wanted = {site.name for name in names for site in named_sites(sites, name)} or eligible
    if lost := sorted(wanted - eligible):
        raise CarrierError(f"the number of channels of layer {lost[0]!r} cannot be changed for itself; leave it out")
    chosen = [site for site in sites if site.name in wanted]
    if not chosen:
        raise CarrierError(f"{str(path)!r} has no convolution whose number of channels can be changed for itself")
    return tuple(Layer(carrier_of(site)) for site in chosen)


def carrier_of(site: WeightSite) -> Carrier:
    """What a key remembers of a layer."""
    return Carrier(site.shape, site.name, site.nodes[0] if site.nodes else "", site.op, site.position)


def ingrain_key(pool: Path, references: Sequence[Path], options: IngrainOptions) -> Key:
    """A fresh ingrain key: carriers from a pool, told by unmarked networks that ONNX Runtime runs.

    Args:
        pool: Inputs nobody trained on (.npy, or .npz of one array), as the models take them.
        references: Unmarked networks of the task, at least one; the first chooses the carriers.
        options: How many carriers, and the statistic.

    Raises:
        CalibrationError: The pool cannot be read, or a reference does not take it or give scores.
        KeyFileError: The pool is too small, or the references do not fit each other.
        MissingExtra: onnxruntime is not installed.
        ModelError: A reference cannot be loaded.
    """
    inputs = load_array(pool)
    return IngrainScheme().make_key(inputs, [_scores(path, inputs) for path in references], options)


def trigger_key(inputs: Path, labels: Path | None, options: TriggerOptions) -> Key:
    """A fresh trigger key.

    Args:
        inputs: The triggers (.npy, or .npz of one array), as the models take them.
        labels: Class indices of the owner's choosing (.npy); None where the key draws them.
        options: From how many classes.

    Raises:
        CalibrationError: A file cannot be read.
        KeyFileError: Inputs and labels do not fit each other.
    """
    return TriggerScheme().make_key(load_array(inputs), None if labels is None else load_array(labels), options)


def _scores(path: Path, inputs: AnyArray) -> Float64Array:
    scores = ask(path, inputs).scores
    if scores is None:
        raise CalibrationError(f"reference {str(path)!r} gives labels only; a reference must give scores")
    return scores


def suggest_site(sites: Sequence[WeightSite], n_bits: int) -> WeightSite:
    """The layer a mark sits best in: the largest one that is neither the last nor depthwise, with room for the bits.

    The last layer is what a thief retrains first; a depthwise layer has too few weights that belong together.

    Raises:
        CarrierError: No layer has room.
    """
    readable = [site for site in sites if site.problem is None]
    roomy = [site for site in readable if _size(site) >= COMFORTABLE_ENTRIES_PER_BIT * n_bits]
    inner = [site for site in roomy if site.position != sites[-1].position and site.shape[1] > 1]
    if not roomy:
        raise CarrierError(
            f"no layer has room for {n_bits} bits ({COMFORTABLE_ENTRIES_PER_BIT} weights a bit are asked for); take "
            "fewer bits with --bits, or name a layer with --layer ('onnxmark inspect' lists them)"
        )
    return max(inner or roomy, key=_size)


def _size(site: WeightSite) -> int:
    size = 1
    for axis in site.shape:
        size *= axis
    return size
