"""A conversion as a whole: what is written, what it says of itself, what happens when an adapter fails."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from onnxmark.conversion import Container, Converted, SourceWeights, convert, restored_weights
from onnxmark.conversion.converting import SOURCE
from onnxmark.conversion.origins import ORIGINS
from onnxmark.errors import ConversionError, MissingExtra, TrustRequired, WriteBackError
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model, write_model
from onnxmark.model.weights_only import write_weights_only
from tests.conversion.adapters import converter, only, request
from tests.onnx_models import conv_chain, kernel

KERNELS = [kernel((16, 3, 3, 3), 1), kernel((16, 16, 3, 3), 2), kernel((16, 16, 3, 3), 3)]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\0\0\0\0TFL3")
    return path


def test_the_file_says_what_it_was_made_from(source, tmp_path):
    made = convert(request(source, tmp_path / "m.onnx"), only(converter(KERNELS, notes=("a note",))))
    assert (made.n_layers, made.n_weights, made.n_found) == (3, 3, 3)
    assert (made.route, made.notes, made.has_graph) == ("test 1.0", ("a note",), True)
    with open_model(made.output) as model:
        said = json.loads(model.metadata[SOURCE])
        assert said == {"container": "tflite", "route": "test 1.0", "has_graph": True, "notes": ["a note"]}
        assert [entry["weights"] for entry in json.loads(model.metadata[ORIGINS])] == [
            "net.0.kernel", "net.1.kernel", "net.2.kernel",
        ]  # fmt: skip
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["m.onnx", "model.tflite"]


def test_weights_that_got_lost_are_counted(source, tmp_path):
    written = [KERNELS[0], KERNELS[1], kernel((16, 16, 3, 3), 9)]
    made = convert(request(source, tmp_path / "m.onnx"), only(converter(KERNELS, written)))
    assert (made.n_layers, made.n_weights, made.n_found) == (3, 3, 2)
    assert made.missing == ("net.2.kernel",)


@pytest.mark.parametrize("folded", [False, True])
def test_a_marked_file_gives_the_frameworks_weights_back(source, tmp_path, folded):
    scales = np.random.default_rng(0).uniform(0.3, 2, (3, 16, 1, 1, 1)).astype(np.float32)
    written = [k * s for k, s in zip(KERNELS, scales, strict=True)] if folded else KERNELS
    made = convert(request(source, tmp_path / "m.onnx"), only(converter(KERNELS, written)))
    with open_model(made.output) as model:
        site = model.sites()[1]
    key = make_key(carrier_of(site), np.random.default_rng(1).integers(0, 2, 64).astype(np.uint8))
    embed_file(made.output, key, tmp_path / "marked.onnx")
    with open_model(tmp_path / "marked.onnx") as model:
        marked = model.read(model.site(site.name)).values
    restored = restored_weights(tmp_path / "marked.onnx")
    assert [one.name for one in restored] == ["net.0.kernel", "net.1.kernel", "net.2.kernel"]
    factors = scales if folded else np.ones_like(scales)
    np.testing.assert_allclose(restored[1].values * factors[1], marked, rtol=1e-5, atol=1e-7)
    assert np.abs(restored[1].values - KERNELS[1]).max() > 1e-3
    for index in (0, 2):
        np.testing.assert_allclose(restored[index].values, KERNELS[index], rtol=1e-5, atol=1e-7)
    assert not restored[0].values.flags.writeable


def test_a_filter_that_is_multiplied_by_zero_is_lost_and_said_so(source, tmp_path):
    scale = np.ones((16, 1, 1, 1), np.float32)
    scale[5] = 0
    made = convert(request(source, tmp_path / "m.onnx"), only(converter(KERNELS[:1], [KERNELS[0] * scale * 2])))
    (restored,) = restored_weights(made.output)
    assert restored.lost == (5,)
    assert not restored.values[5].any()
    np.testing.assert_allclose(np.delete(restored.values, 5, 0), np.delete(KERNELS[0], 5, 0), rtol=1e-5)


def test_two_copies_that_differ_are_refused(source, tmp_path):
    twin = KERNELS[1]
    made = convert(request(source, tmp_path / "m.onnx"), only(converter(KERNELS[:2], [KERNELS[0], twin, twin])))
    assert len(restored_weights(made.output)) == 2
    write_model(made.output, {"conv2.weight": twin + 1}, tmp_path / "changed.onnx")
    with pytest.raises(ConversionError, match=r"is in the file twice, and 'conv2.weight' differs from the other copy"):
        restored_weights(tmp_path / "changed.onnx")


def test_a_layer_that_is_gone_or_was_pruned_is_refused(source, tmp_path):
    made = convert(request(source, tmp_path / "m.onnx"), only(converter(KERNELS)))
    metadata = onnx.load(made.output).metadata_props

    def with_metadata(kernels, names=None):
        path = conv_chain(tmp_path / "other.onnx", kernels, names)
        model = onnx.load(path)
        model.metadata_props.extend(metadata)
        onnx.save(model, path)
        return path

    with pytest.raises(ConversionError, match=r"has no readable weights 'conv0.weight' any more; optimisers rename"):
        restored_weights(with_metadata(KERNELS, ["a", "b", "c"]))
    narrow = [KERNELS[0][:8], KERNELS[1][:, :8], KERNELS[2]]
    with pytest.raises(ConversionError, match="weights that were pruned away cannot be put back"):
        restored_weights(with_metadata(narrow))


def test_weights_without_a_graph(source, tmp_path):
    def bare(asked):
        weights = tuple(SourceWeights(f"w{i}", k.copy(), "OIHW") for i, k in enumerate(KERNELS))
        write_weights_only(asked.target, weights)
        return Converted("test", weights, has_graph=False)

    made = convert(request(source, tmp_path / "m.onnx"), only(bare))
    assert not made.has_graph
    assert made.n_found == 3


def failing(error):
    def convert_(asked):
        raise error

    return only(convert_)


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (ConversionError("torn; get it again"), ConversionError, "^torn; get it again$"),
        (TrustRequired("runs code"), TrustRequired, "^runs code$"),
        (MissingExtra("tensorflow", "tf", "converting"), MissingExtra, r"pip install 'onnxmark\[tf\]'"),
        (RuntimeError("many\nlines\nof it"), ConversionError, "cannot be converted: RuntimeError: many; see --debug"),
        (KeyError(), ConversionError, "cannot be converted: KeyError: it says no more"),
        (AssertionError("x" * 5000), ConversionError, "^.{1,700}$"),
    ],
)
def test_what_fails_is_one_line_and_leaves_nothing(source, tmp_path, error, expected, words):
    with pytest.raises(expected, match=words) as caught:
        convert(request(source, tmp_path / "m.onnx"), failing(error))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]


def test_a_converter_that_writes_nothing_or_rubbish_is_found_out(source, tmp_path):
    for content in (None, b"rubbish that is no model"):

        def convert_(asked, content=content):
            if content is not None:
                asked.target.write_bytes(content)
            return Converted("test", ())

        with pytest.raises(ConversionError, match="was converted by test, and the file cannot be read"):
            convert(request(source, tmp_path / "m.onnx"), only(convert_))


def test_a_source_that_is_not_there_or_would_be_overwritten(source, tmp_path):
    with pytest.raises(ConversionError, match=r"there is no '.*absent.tflite'; check the path"):
        convert(request(tmp_path / "absent.tflite", tmp_path / "m.onnx"), only(converter(KERNELS)))
    with pytest.raises(WriteBackError, match="is the model itself"):
        convert(request(source, source), only(converter(KERNELS)))
    with pytest.raises(WriteBackError, match="cannot be written"):
        convert(request(source, tmp_path / "nowhere" / "m.onnx"), only(converter(KERNELS)))
    assert source.read_bytes() == b"\0\0\0\0TFL3"


def test_weights_must_be_in_a_known_order():
    with pytest.raises(ValueError, match="unknown axis order 'IHWO'"):
        SourceWeights("w", kernel((2, 3)), "IHWO")
    with pytest.raises(ValueError, match="must be float32 with at least two axes, not float64"):
        SourceWeights("w", kernel((2, 3)).astype(np.float64), "OI")
    with pytest.raises(ValueError, match="at least two axes"):
        SourceWeights("w", kernel((6,)), "OI")


def test_every_container_has_words():
    assert all(container.words for container in Container)
