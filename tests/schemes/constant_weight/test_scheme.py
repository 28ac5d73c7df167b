"""The scheme as keys, audits and commands know it, through real files in several precisions."""

import math
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxmark.audit import audit_file
from onnxmark.errors import EmbeddingError, KeyFileError
from onnxmark.keys import Carrier, ForeignKey, Key, load_key, save_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model, write_model
from onnxmark.schemes.constant_weight.parameters import Options
from onnxmark.schemes.constant_weight.scheme import ConstantWeightScheme
from onnxmark.schemes.constant_weight.selection import selection_of
from onnxmark.schemes.scheme import EmbeddingMeans, Layer, PlainReading, Reads
from onnxmark.verdict import Verdict
from onnxmark.weights import Origin, WeightTensor
from tests.onnx_models import conv_chain, kernel
from tests.schemes.constant_weight.words import SHAPE, key, layer

SCHEME = ConstantWeightScheme()
READING = PlainReading("")
PAYLOAD = np.random.default_rng(1).integers(0, 2, 64, dtype=np.uint8)


def made(*shapes, weights=False, payload=PAYLOAD, **options):
    layers = [
        Layer(Carrier(shape, f"conv{index}.weight", position=index), layer(shape, index) if weights else None)
        for index, shape in enumerate(shapes)
    ]
    return SCHEME.make_key(layers, payload, Options(**options))


def test_it_says_what_it_is():
    assert (SCHEME.name, SCHEME.reads, SCHEME.signs_tested) == ("constant-weight", Reads.WEIGHTS, 1)
    assert SCHEME.options() == Options()


def test_a_fresh_key_is_complete():
    own = made(SHAPE)
    assert own.parameters == {"length": 150, "weight": 15, "rate": 0.95}
    assert np.array_equal(own.payload, PAYLOAD)
    assert own.premark is None
    assert made(SHAPE).seed.reveal() != own.seed.reveal()


def test_a_key_for_one_layer_remembers_it():
    assert made(SHAPE, weights=True).premark is not None
    assert made(SHAPE, (20, 30), weights=True).premark is None


def test_keys_go_through_a_file(tmp_path):
    own = made(SHAPE, (20, 30), rate=0.875)
    save_key(own, tmp_path / "key.npy")
    read = load_key(tmp_path / "key.npy")
    assert isinstance(read, Key)
    assert dict(read.parameters) == dict(own.parameters)
    assert np.array_equal(selection_of(read).positions, selection_of(own).positions)


@pytest.mark.parametrize(
    ("shapes", "options", "words"),
    [
        (((4, 4, 3, 3),), {}, "150 symbols .* and there are 144"),
        (((32, 6),), {"rate": 0.95}, "pruning 95 % of 192 weights leaves fewer than the 15"),
        ((SHAPE,), {"length": 60}, f"carry {int(math.log2(math.comb(60, 30)))} bits and the message has 64; take"),
        ((SHAPE,), {"rate": 2.0}, "from 0 to below 1, not 2.0"),
    ],
)
def test_keys_that_do_not_fit_the_layer(shapes, options, words):
    with pytest.raises(KeyFileError, match=words):
        made(*shapes, **options)


def test_no_bits():
    with pytest.raises(KeyFileError, match="1 to 65,536 bits, not 0"):
        made(SHAPE, payload=np.zeros(0, np.uint8))


def test_facts_tell_no_place():
    facts = SCHEME.facts(made(SHAPE))
    assert facts == {
        "code": f"150 symbols, 15 of them ones; carries {int(math.log2(math.comb(150, 15)))} bits",
        "made for": "pruning up to 95 % of a layer",
    }


def test_only_layers_of_the_keys_shapes_are_read():
    own = made(SHAPE, (20, 30))
    assert len(SCHEME.readings(own, (SHAPE, (20, 30)))) == 1
    for shapes in (((20, 30), SHAPE), (SHAPE,), (SHAPE, (30, 20)), (SHAPE, (20, 30), (1, 1))):
        assert SCHEME.readings(own, shapes) == ()


def test_a_matrix_is_no_key_of_this_scheme():
    foreign = ForeignKey(np.ones((4, 4)), None, "w.npy", "0" * 64)
    assert SCHEME.readings(foreign, (SHAPE,)) == ()
    with pytest.raises(KeyFileError, match="a matrix holds no constant weight code"):
        SCHEME.extract(foreign, (layer(),), READING)


@pytest.mark.parametrize("margin", [None, 0.05, 0.5, 0.9])
def test_the_margin_asked_for_is_reached(margin):
    own, host = key(), layer()
    found = SCHEME.embed(own, (host,), READING, EmbeddingMeans(margin))
    assert found.asked == pytest.approx(1 / 3 if margin is None else margin)
    assert found.solved == pytest.approx(found.asked, rel=1e-5)
    assert SCHEME.extract(own, found.layers, READING).n_errors == 0


@pytest.mark.parametrize("margin", [1.0, 2.0, 0.0, float("nan")])
def test_margins_out_of_reach(margin):
    with pytest.raises(EmbeddingError, match=r"above 0 and below 1 \(by default 0.33\)"):
        SCHEME.embed(key(), (layer(),), READING, EmbeddingMeans(margin))


def test_another_key_finds_nothing():
    (marked,) = SCHEME.embed(key(seed=1), (layer(),), READING, EmbeddingMeans()).layers
    assert SCHEME.extract(key(seed=1), (marked,), READING).log10_p < -19
    assert SCHEME.extract(key(seed=2), (marked,), READING).log10_p > -6


def stored(values, precision, path):
    """One convolution whose weights a file keeps in some precision."""
    dequantised, given = "w", []
    if precision == "int8":
        scale = (np.abs(values).max(axis=(1, 2, 3)) / 127).astype(np.float32)
        integers = np.round(values / scale[:, None, None, None]).astype(np.int8)
        given = [
            numpy_helper.from_array(integers, "w"),
            numpy_helper.from_array(scale, "s"),
            numpy_helper.from_array(np.zeros(len(scale), np.int8), "z"),
        ]
        nodes, dequantised = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=0)], "d"
    elif precision == "bfloat16":
        given = [
            helper.make_tensor(
                "w", TensorProto.BFLOAT16, values.shape, values.astype(ml_dtypes.bfloat16).tobytes(), raw=True
            )
        ]
        nodes, dequantised = [helper.make_node("Cast", ["w"], ["d"], to=TensorProto.FLOAT)], "d"
    else:
        given = [numpy_helper.from_array(values.astype(precision), "w")]
        nodes, dequantised = [helper.make_node("Cast", ["w"], ["d"], to=TensorProto.FLOAT)], "d"
    nodes.append(helper.make_node("Conv", ["x", dequantised], ["y"], name="conv", pads=[1, 1, 1, 1]))
    image = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "one", image[:1], image[1:], given)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8"])
def test_the_word_survives_being_stored(precision, tmp_path):
    own = key(rate=0.9)
    path = stored(layer(seed=2).values, precision, tmp_path / "model.onnx")
    with open_model(path) as model:
        (site,) = model.sites()
        host = model.read(site)
    marked = SCHEME.embed(own, (host,), READING, EmbeddingMeans()).layers
    write_model(path, {site.name: marked[0].values}, tmp_path / "marked.onnx")
    with open_model(tmp_path / "marked.onnx") as model:
        written = model.read(model.sites()[0])
    found = SCHEME.extract(own, (written,), READING)
    assert found.n_errors == 0
    assert found.bit_error_rate == 0
    assert found.margins.min() > 0.25


def test_a_file_is_marked_and_audited(tmp_path):
    own = key(rate=0.9, shapes=(SHAPE,))
    path = conv_chain(
        tmp_path / "model.onnx", [kernel((16, 3, 3, 3)), layer(seed=3).values], ["first", "layer0.weight"]
    )
    marking = embed_file(path, own, tmp_path / "marked.onnx")
    assert marking.evidence.n_errors == 0
    assert 0 < marking.relative_change < 0.5
    assert audit_file(tmp_path / "marked.onnx", [own]).verdict is Verdict.MATCH
    assert audit_file(path, [own]).verdict is Verdict.NO_MATCH
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    before, after = (
        ReferenceEvaluator(onnx.load(p)).run(None, {"input": image})[0] for p in (path, tmp_path / "marked.onnx")
    )
    assert 0 < np.linalg.norm(after - before) < 0.5 * np.linalg.norm(before)


def test_a_word_over_two_layers_of_a_file(tmp_path):
    shapes = ((16, 3, 3, 3), (24, 16, 3, 3))
    own = SCHEME.make_key(
        [Layer(Carrier(shape, f"conv{index}.weight", position=index)) for index, shape in enumerate(shapes)],
        PAYLOAD,
        Options(rate=0.8),
    )
    path = conv_chain(tmp_path / "model.onnx", [layer(shape, index).values for index, shape in enumerate(shapes)])
    embed_file(path, own, tmp_path / "marked.onnx")
    audit = audit_file(tmp_path / "marked.onnx", [own])
    assert audit.verdict is Verdict.MATCH
    with open_model(tmp_path / "marked.onnx") as model:
        layers = tuple(model.read(site) for site in model.sites())
    assert SCHEME.extract(own, layers, READING).bit_error_rate == 0
    # Half of the word alone is not read as a word.
    assert SCHEME.readings(own, (shapes[1],)) == ()


def test_rescaled_filters_are_told_by_a_key_that_remembers_the_layer(tmp_path):
    """Positive factors on filters reorder magnitudes; norms from before marking, which know no message, undo them."""
    host = layer(seed=4)
    path = conv_chain(tmp_path / "model.onnx", [host.values], ["conv.weight"])
    own = SCHEME.make_key([Layer(Carrier(SHAPE, "conv.weight"), host)], PAYLOAD, Options(rate=0.9))
    embed_file(path, own, tmp_path / "marked.onnx")
    with open_model(tmp_path / "marked.onnx") as model:
        marked = model.read(model.sites()[0]).values
    factors = np.exp(np.random.default_rng(0).normal(0, 1, 32)).astype(np.float32)
    write_model(
        tmp_path / "marked.onnx", {"conv.weight": marked * factors[:, None, None, None]}, tmp_path / "moved.onnx"
    )
    finding = audit_file(tmp_path / "moved.onnx", [own]).findings[0]
    assert finding.verdict is Verdict.MATCH
    forgetful = replace(own, premark=None)
    weaker = audit_file(tmp_path / "moved.onnx", [forgetful]).findings[0].judgement.log10_p_value
    assert finding.judgement.log10_p_value < weaker - 3


def test_extraction_changes_nothing():
    host = layer()
    before = host.values.copy()
    first, again = (SCHEME.extract(key(), (host,), READING) for _ in range(2))
    assert np.array_equal(first.margins, again.margins)
    assert np.array_equal(host.values, before)


def test_a_constant_layer_is_no_match_and_says_why():
    flat = WeightTensor("w", np.full(SHAPE, 0.5, np.float32), Origin("conv", "Conv", 0, "initializer"))
    found = SCHEME.extract(key(), (flat,), READING)
    assert (found.log10_p, found.degenerate) == (0, "the chosen weights are all of one magnitude")
