"""The zoo of published architectures, at its smallest: what the benchmark says must be what is in the files."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections import Counter
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
import typer
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from rich.console import Console
from torch.nn import functional
from typer.testing import CliRunner

from benchmarks.zoo import __main__ as command
from benchmarks.zoo import compact, marks, tables, tracing, twins, visits
from benchmarks.zoo.apart import Measured, apart
from benchmarks.zoo.reference import Reference, in_canonical_order
from benchmarks.zoo.species import EVERY_NAME, SPECIES, Route, chosen
from benchmarks.zoo.tracing import difference, trace
from onnxmark.conversion.origins import ORIGINS
from onnxmark.errors import ConversionError
from onnxmark.model import open_model
from tests.onnx_models import conv_chain

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:In the future `np.object` will be defined:FutureWarning"),
]
SMALL = ("MobileNet-quarter", "MobileNetV2-third")
# Parameters of the models with 1000 classes, as Keras's documentation counts them.
PUBLISHED = {
    "VGG16": 138_357_544,
    "ResNet50": 25_636_712,
    "ResNet101": 44_707_176,
    "ResNet50V2": 25_613_800,
    "DenseNet121": 8_062_504,
    "InceptionV3": 23_851_784,
    "Xception": 22_910_480,
    "MobileNet": 4_253_864,
    "MobileNetV2": 3_538_984,
    "MobileNetV3Small": 2_554_968,
    "EfficientNetB0": 5_330_571,
    "EfficientNetV2B0": 7_200_312,
    "NASNetMobile": 5_326_716,
    "ConvNeXtTiny": 28_589_128,
}
# Means, variances and a counter of the pixels, which the twins keep as constants.
OF_PIXELS = {"EfficientNetB0": 7, "ConvNeXtTiny": 0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The small species, saved by both frameworks; nothing in them is to be changed."""
    pytest.importorskip("tensorflow")
    originals = import_module("benchmarks.zoo.originals")
    found = {}
    for name in SMALL:
        found[name] = tmp_path_factory.mktemp(name)
        originals.keep(SPECIES[name], found[name])
        twins.keep(name, found[name])
    return found


@pytest.fixture(scope="module")
def files(folders):
    """A converted file of each small species, by route, made in this process."""
    from onnxmark_tf.child import converted as by_tensorflow
    from onnxmark_torch.conversion.exported import convert as by_torch

    made = {}
    for name in SMALL:
        for route in SPECIES[name].routes:
            target = folders[name] / f"{route.name}.onnx"
            converter = by_torch if route.is_twin else by_tensorflow
            visits.converted(SPECIES[name], route, folders[name], target, lambda _, found=converter: found)
            made[name, route] = target
    return made


@pytest.fixture(scope="module")
def references(folders):
    return {name: Reference.load(folder / "reference.npz") for name, folder in folders.items()}


@pytest.mark.parametrize(
    ("name", "route", "n_kernels", "n_equal"),
    [
        # Keras folds into convolutions across channels, and not into depthwise ones (13) or those without (1, 1).
        ("MobileNet-quarter", Route.KERAS, 28, 14),
        ("MobileNet-quarter", Route.PROGRAM, 28, 28),
        # PyTorch folds into all of them but the fully connected one.
        ("MobileNetV2-third", Route.FOLDING, 53, 1),
    ],
)
def test_every_kernel_is_found_equal_or_folded_and_the_answers_are_the_same(
    name, route, n_kernels, n_equal, files, references
):
    found = trace(files[name, route], references[name])
    assert (found.n_kernels, found.n_equal, found.n_close, found.n_scaled) == (
        n_kernels,
        n_equal,
        n_kernels - n_equal,
        0,
    )
    assert found.n_folded == n_kernels - n_equal
    assert found.n_named == found.n_layers == n_kernels
    assert not found.missing
    assert not found.untraced
    assert found.error < 1e-6
    assert difference(files[name, route], references[name]) < 2e-4 * references[name].spread


@pytest.mark.parametrize("name", SMALL)
def test_a_twin_has_its_originals_kernels_and_answers_alike(name, folders, references):
    net = twins.twin(name)
    reference = references[name]
    fresh = twins.answers(net, reference.inputs)
    assert np.abs(fresh - reference.outputs).max() > 0.5 * reference.spread
    twins.fill(net, reference.variables)
    shapes = Counter(tuple(w.shape) for n, w in net.state_dict().items() if n.endswith("weight") and w.ndim > 1)
    assert shapes == Counter(kernel.shape for kernel in reference.kernels.values())
    assert np.abs(twins.answers(net, reference.inputs) - reference.outputs).max() < 2e-4 * reference.spread


@pytest.mark.parametrize("name", SMALL)
def test_answers_depend_on_the_image_as_a_comparison_needs(name, references):
    outputs = references[name].outputs
    assert outputs.shape == (8, 10)
    assert references[name].spread == pytest.approx(np.mean([outputs[:, k].std() for k in range(10)]), rel=1e-5)
    assert references[name].spread > 0.05 * np.abs(outputs).max()


def test_batch_normalisations_are_off_so_that_folding_shows(references):
    variables = references["MobileNet-quarter"].variables
    gammas = np.concatenate([values for name, values in variables.items() if name.endswith("/gamma")])
    assert gammas.std() > 0.2
    assert 0 < (gammas < 0).mean() < 0.2


def test_statistics_are_those_of_noise_each_off_by_a_factor():
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    originals = import_module("benchmarks.zoo.originals")
    norm = keras.layers.BatchNormalization(momentum=0.9)
    originals.randomise(keras.Sequential([keras.Input((8, 8, 256)), norm]), np.random.default_rng(0))
    variance, mean = norm.moving_variance.numpy(), norm.moving_mean.numpy()
    # Noise of variance 1, times what is even between 0.5 and 2; shifted by normal numbers of deviation 0.1.
    assert 0.4 < variance.min() < 0.6
    assert 1.8 < variance.max() < 2.2
    assert mean.std() == pytest.approx(0.1, rel=0.25)
    assert norm.momentum == 0.9


def test_a_mark_in_the_middle_is_found_and_every_other_kernel_comes_back_as_it_was(files, references, tmp_path):
    path, output = files["MobileNet-quarter", Route.KERAS], tmp_path / "marked.onnx"
    found = marks.mark(path, output)
    assert (found.marked, found.unmarked) == ("match", "no-match")
    assert found.is_told
    assert found.log10_p < -50
    assert 0 < found.relative_change < 1
    with open_model(path) as model:
        names = [site.name for site in model.sites()]
    assert len(names) // 3 < names.index(found.layer) < len(names) - 1
    assert len(trace(output, references["MobileNet-quarter"]).missing) == 1


def test_a_kernel_that_was_changed_is_missing_and_one_that_was_scaled_is_told(files, references):
    path, reference = files["MobileNet-quarter", Route.PROGRAM], references["MobileNet-quarter"]
    changed, scaled = dict(reference.variables), dict(reference.variables)
    kernel = reference.variables["conv_pw_3/kernel"]
    changed["conv_pw_3/kernel"] = kernel + np.float32(1e-3) * np.abs(kernel).max()
    scaled["conv_pw_3/kernel"] = kernel * np.linspace(-2, 3, len(kernel), dtype=np.float32).reshape(-1, 1, 1, 1)
    found = trace(path, dataclasses.replace(reference, variables=changed))
    assert found.missing == ("conv_pw_3/kernel",)
    assert found.n_found == found.n_kernels - 1
    found = trace(path, dataclasses.replace(reference, variables=scaled))
    assert (found.n_scaled, found.missing) == (1, ())


def test_a_kernel_under_another_name_is_found_but_not_named(files, references):
    reference = references["MobileNet-quarter"]
    variables = dict(reference.variables)
    variables["elsewhere/kernel"] = variables.pop("conv1/kernel")
    found = trace(files["MobileNet-quarter", Route.PROGRAM], dataclasses.replace(reference, variables=variables))
    assert (found.n_found, found.n_named) == (28, 27)


def test_a_layer_without_an_origin_is_named_and_its_kernel_missing(files, references, tmp_path):
    model = onnx.load(files["MobileNet-quarter", Route.PROGRAM])
    (record,) = [entry for entry in model.metadata_props if entry.key == ORIGINS]
    left_out, *kept = json.loads(record.value)
    record.value = json.dumps(kept)
    onnx.save(model, tmp_path / "other.onnx")
    found = trace(tmp_path / "other.onnx", references["MobileNet-quarter"])
    assert found.missing == ("conv1/kernel",)
    assert found.untraced == (f"{left_out['site']} (Conv 8x3x3x3): no kernel of the model",)


def test_a_file_is_asked_as_it_stands(tmp_path):
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["wide"]),
        helper.make_node("MaxPool", ["wide"], ["pooled"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [2, 3, 4, 4]), ("y", [2, 12]))
    )
    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads")
    graph = helper.make_graph(nodes, "zeros before a maximum", [given], [made], [pads])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    # Where all pixels are negative, the zeros around them win, which ONNX Runtime's optimiser forgets.
    pixels = -np.random.default_rng(0).random((4, 4, 4, 3), dtype=np.float32)
    ask = ReferenceEvaluator(model)
    halves = [pixels[:2].transpose(0, 3, 1, 2), pixels[2:].transpose(0, 3, 1, 2)]
    outputs = np.concatenate([ask.run(None, {"x": half})[0] for half in halves])
    assert (outputs == 0).any()
    assert difference(tmp_path / "model.onnx", Reference({}, pixels, outputs)) == 0
    assert difference(tmp_path / "model.onnx", Reference({}, pixels, outputs - 3)) == 3
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("stray", TensorProto.FLOAT, [1]))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"the file asks for 2 inputs, the model for one: .*'stray'"):
        difference(tmp_path / "model.onnx", Reference({}, pixels, outputs))


def test_a_file_without_a_record_is_not_traced(tmp_path):
    path = conv_chain(tmp_path / "plain.onnx", [np.ones((4, 3, 3, 3), np.float32)])
    with pytest.raises(ConversionError, match="does not say where its weights came from"):
        trace(path, Reference({}, np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 10), np.float32)))


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (3, 1), (3, 2), (5, 2), (7, 2)])
def test_padding_and_pooling_are_tensorflows(size, kernel, stride):
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(size)
    image = rng.standard_normal((2, size, size + 1, 3)).astype(np.float32)
    here = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
    filters = rng.standard_normal((kernel, kernel, 3, 4)).astype(np.float32)
    convolved = functional.conv2d(
        compact.padded(here, (kernel, kernel), stride),
        torch.from_numpy(in_canonical_order(filters, "kernel", "Conv2D")),
        stride=stride,
    )
    expected = tf.nn.conv2d(image, filters, stride, "SAME").numpy()
    np.testing.assert_allclose(convolved.numpy().transpose(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-4)
    pooled = compact.max_pool(here, kernel, stride, pad=True).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(pooled, tf.nn.max_pool2d(image, kernel, stride, "SAME").numpy())
    mean = compact.mean_pool(here).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(mean, tf.nn.avg_pool2d(image, 3, 1, "SAME").numpy(), rtol=1e-5, atol=1e-6)


def test_depthwise_kernels_become_filters_of_one_channel_each():
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    image, kernel = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 6, 6, 5), (3, 3, 5, 2)))
    canonical = in_canonical_order(kernel, "kernel", "DepthwiseConv2D")
    assert canonical.shape == (10, 1, 3, 3)
    here = functional.conv2d(
        torch.from_numpy(image.transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(np.ascontiguousarray(canonical)),
        groups=5,
    )
    expected = tf.nn.depthwise_conv2d(image, kernel, [1, 1, 1, 1], "VALID").numpy()
    np.testing.assert_allclose(here.numpy().transpose(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(in_canonical_order(kernel, "depthwise_kernel", "SeparableConv2D"), canonical)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_twin_has_as_many_parameters_as_its_original_is_published_with(name):
    size = 224 if name == "VGG16" else SPECIES[name].size
    with torch.device("meta"):
        net = compact.Compact(twins.ARCHITECTURES[name], (3, size, size))
    counted = {key: value.numel() for key, value in net.state_dict().items() if not key.endswith("batches_tracked")}
    if name == "InceptionV3":
        counted = {key: n for key, n in counted.items() if not key.startswith("batch") or not key.endswith(".weight")}
    last = list(net.state_dict().values())[-2]
    n_parameters = sum(counted.values()) + 990 * (last.shape[1] + 1)
    assert n_parameters + OF_PIXELS.get(name, 0) == PUBLISHED[name]


def test_the_zoo_is_as_large_as_it_says():
    assert len(EVERY_NAME) == len(PUBLISHED) == 14
    assert set(SPECIES) == set(twins.ARCHITECTURES)
    assert {route for one in SPECIES.values() for route in one.routes} == set(Route)


def test_species_are_chosen_by_name_in_any_case():
    assert [one.name for one in chosen("resnet50, MobileNet")] == ["ResNet50", "MobileNet"]
    assert tuple(one.name for one in chosen(None)) == EVERY_NAME
    with pytest.raises(ValueError, match="no species 'alexnet' in the zoo; there are: VGG16"):
        chosen("VGG16,AlexNet")


def test_filling_a_twin_refuses_what_does_not_fit():
    net = compact.Compact(lambda net, x: net.norm("bn", net.convolve("conv", x, 4, 3)), (3, 8, 8))
    fitting = {
        "conv/kernel": np.ones((4, 3, 3, 3), np.float32),
        **{f"bn/{name}": np.full(4, 2, np.float32) for name in ("gamma", "beta", "moving_mean", "moving_variance")},
    }
    twins.fill(net, fitting)
    assert net.state_dict()["bn.running_var"].tolist() == [2, 2, 2, 2]
    with pytest.raises(ValueError, match=r"the original lacks \['bn.weight'\], the twin \[\]"):
        twins.fill(net, {name: values for name, values in fitting.items() if name != "bn/gamma"})
    with pytest.raises(ValueError, match=r"the original lacks \[\], the twin \['fc/bias'\]"):
        twins.fill(net, fitting | {"fc/bias": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match=r"'conv.weight': shape \(4, 3, 3, 3\), the original's \(4, 3, 5, 5\)"):
        twins.fill(net, fitting | {"conv/kernel": np.ones((4, 3, 5, 5), np.float32)})


def test_a_twin_is_made_by_the_name_that_convert_asks_for():
    assert isinstance(twins.MobileNet(), compact.Compact)
    with pytest.raises(AttributeError, match="no twin 'AlexNet'; there are: VGG16"):
        twins.AlexNet  # noqa: B018


def test_a_reference_comes_back_from_its_file(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"a/kernel": (4, 3, 3, 3), "b/depthwise_kernel": (4, 1, 3, 3), "c/kernel": (5, 4), "c/bias": (5,)}
    variables = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    reference = Reference(variables, np.ones((2, 8, 8, 3), np.float32), np.zeros((2, 10), np.float32))
    reference.save(tmp_path / "reference.npz")
    found = Reference.load(tmp_path / "reference.npz")
    assert set(found.variables) == set(shapes)
    np.testing.assert_array_equal(found.variables["b/depthwise_kernel"], variables["b/depthwise_kernel"])
    np.testing.assert_array_equal(found.inputs, reference.inputs)
    assert found.kinds == {"across": 1, "depthwise": 1, "dense": 1}
    assert tables.kinds_in_words(found.kinds) == "1+1dw+1fc"


def test_what_runs_apart_is_measured_and_fails_here():
    plain, large = apart(np.zeros, 10), apart(np.ones, 20_000_000)
    assert large.value.shape == (20_000_000,)
    assert large.peak - plain.peak > 120e6
    assert 0 <= plain.seconds < large.seconds
    with pytest.raises(ValueError, match="negative dimensions"):
        apart(np.zeros, -1)


def test_a_species_goes_by_every_route_and_says_what_failed(folders, files, monkeypatch, tmp_path):
    name, twin = "MobileNet-quarter", visits.Twinned(True, 0.0, 1.0)

    def by_hand(function, species, *arguments):
        if function is visits.keep_original:
            shutil.copyfile(folders[name] / "reference.npz", arguments[0] / "reference.npz")
            return Measured(None, 1.0, 1)
        if function is visits.keep_twin:
            return Measured(twin, 1.0, 1)
        route, _, target = arguments
        if route is Route.PROGRAM:
            raise ConversionError("it is damaged")
        shutil.copyfile(files[name, route], target)
        return Measured(SimpleNamespace(route="by hand"), 2.5, 7)

    monkeypatch.setattr(visits, "apart", by_hand)
    found = list(visits.visit(SPECIES[name], tmp_path))
    assert found[0] is twin
    by_keras, by_torch = found[1:]
    assert by_keras.is_sound
    assert (by_keras.name, by_keras.route, by_keras.programs) == (name, Route.KERAS, "by hand")
    assert (by_keras.seconds, by_keras.peak, by_keras.kinds) == (2.5, 7, {"across": 15, "depthwise": 13})
    assert by_keras.mark.is_told
    assert by_keras.optimised < 2e-4 * by_keras.spread
    assert by_torch.problem == "ConversionError: it is damaged"
    assert json.loads(json.dumps(by_torch.figures(), allow_nan=False))["seconds"] is None
    assert json.loads(json.dumps(by_keras.figures(), allow_nan=False))["tracing"]["n_equal"] == 14


def tracing_of(**changes):
    fields = {
        **{"n_kernels": 3, "n_equal": 1, "n_close": 2, "n_scaled": 0, "n_named": 3, "n_folded": 2, "error": 2e-8},
        **{"missing": (), "n_layers": 4, "untraced": ("x (Conv 1x1): no kernel of the model",)},
    }
    return tracing.Tracing(**fields | changes)


def visit_of(**changes):
    told = marks.Mark("conv", 0.1, "match", -75.7, "no-match")
    fields = {"kinds": {"across": 2, "dense": 1}, "tracing": tracing_of(), "mark": told, "seconds": 12.3, "peak": 2**29}
    return visits.Visit("VGG16", Route.KERAS, difference=3e-5, spread=1.0, **fields | changes)


def test_a_visit_is_sound_where_nothing_is_wrong():
    assert visit_of().is_sound
    assert visit_of(mark=None).is_sound
    assert not visit_of(tracing=tracing_of(n_close=1, missing=("fc/kernel",))).is_sound
    assert not visit_of(mark=marks.Mark("conv", 0.1, "inconclusive", -3, "no-match")).is_sound
    assert not visit_of(mark=marks.Mark("conv", 0.1, "match", -75, "match")).is_sound
    assert not dataclasses.replace(visit_of(), difference=2e-3).is_sound
    assert not dataclasses.replace(visit_of(), difference=np.nan).is_sound
    assert not visits.Visit("VGG16", Route.KERAS, {}, problem="ConversionError: no").is_sound


def test_rows_say_what_was_found():
    assert tables.cells(visit_of())[3:7] == ("1", "2", "0", "3")
    assert tables.cells(visit_of())[-4:] == ("3e-05", "1e-76", "12", "537")
    wrong = marks.Mark("conv", 0.1, "no-match", -1, "match")
    assert "no-match, without match" in tables.cells(visit_of(mark=wrong))
    failed = visits.Visit("VGG16", Route.KERAS, {"across": 2}, problem="ConversionError: no")
    assert tables.cells(failed) == ("VGG16", "keras", "2", "fails")
    assert tables.remarks(failed) == ["VGG16 by keras: ConversionError: no"]
    lost = visit_of(tracing=tracing_of(missing=("fc/kernel",)))
    assert tables.remarks(lost) == [
        "VGG16 by keras: kernel fc/kernel is not found",
        "VGG16 by keras: layer x (Conv 1x1): no kernel of the model",
    ]
    spoilt = dataclasses.replace(visit_of(tracing=tracing_of(untraced=())), optimised=3.0)
    assert tables.remarks(spoilt) == ["VGG16 by keras: ONNX Runtime's optimisations put the answers off by 3e+00 σ"]
    shown = Console(width=120, file=io.StringIO())
    longest = visit_of(kinds={"across": 196, "depthwise": 160, "dense": 1})
    longest = dataclasses.replace(longest, name="EfficientNetV2B0", route=Route.FOLDING)
    shown.print(tables.table([longest, failed]))
    assert "EfficientNetV2B0 torch, folding 196+160dw+1fc 1 2 0 3 2e-08 4 1" in " ".join(shown.file.getvalue().split())
    assert "…" not in shown.file.getvalue()


@pytest.mark.parametrize(
    ("twin", "code"), [(visits.Twinned(True, 1e-5, 1.0), 0), (visits.Twinned(False, 1e-5, 1.0), 1)]
)
def test_the_command_writes_its_figures_and_fails_where_something_is_wrong(twin, code, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "visit", lambda species, folder: iter([twin, visit_of()]))
    done = CliRunner().invoke(application(), ["--only", "vgg16", "--json", str(tmp_path / "figures.json")])
    assert done.exit_code == code, done.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["twins"]["VGG16"]["is_sound"] == (code == 0)
    assert figures["visits"][0]["tracing"]["n_close"] == 2
    assert "1e-76" in done.output


def test_the_command_knows_its_species():
    done = CliRunner().invoke(application(), ["--only", "alexnet"])
    assert done.exit_code == 2
    assert "no species 'alexnet'" in done.output


def application():
    app = typer.Typer()
    app.command()(command.main)
    return app
