"""What is stored after lowering precision, computed again from the weights that went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("onnxruntime", reason="needs onnxruntime")

from onnxmark.errors import AttackError
from onnxmark.model import open_model
from onnxmark.symmetries.normalisation import BatchNormFolding
from onnxmark.tools import DynamicQuantisation, HalfPrecision, Int4Quantisation, StaticQuantisation
from onnxmark.tools.tool import ToolAttack
from tests.real.models import locate
from tests.tools.subjects import DEMO, answers, file_means, net, operators, relative_change


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}


def weights_of(path: Path) -> dict[tuple[int, ...], np.ndarray]:
    """What our reader reads, by shape."""
    with open_model(path) as model:
        return {site.shape: model.read(site).values for site in model.sites() if site.problem is None}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return net(tmp_path / "m.onnx")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.onnx"


def test_halves_are_the_nearest_halves(source: Path, output: Path) -> None:
    HalfPrecision(keep_io=False).rewrite(source, output, file_means())
    before, after = tensors_of(source), tensors_of(output)
    for name in ("conv.weight", "dense.weight", "dense.bias"):
        np.testing.assert_array_equal(after[name], before[name].astype(np.float16), strict=True)
    types = [
        item.type.tensor_type.elem_type for item in (*onnx.load(output).graph.input, *onnx.load(output).graph.output)
    ]
    assert types == [onnx.TensorProto.FLOAT16] * 2
    HalfPrecision().rewrite(source, output, file_means())
    assert operators(output).count("Cast") == 2
    assert onnx.load(output).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    ("attack", "levels"),
    [
        (DynamicQuantisation(), 254),
        (DynamicQuantisation(7), 128),
        (DynamicQuantisation(signed=False), 255),
        (StaticQuantisation(), 254),
        (StaticQuantisation(16), 65534),
        (StaticQuantisation(4), 14),
        (StaticQuantisation(form="qoperator"), 254),
    ],
    ids=lambda value: getattr(value, "label", value),
)
def test_weights_are_within_half_a_step_of_what_they_were(
    source: Path, output: Path, tmp_path: Path, attack: ToolAttack, levels: int
) -> None:
    """Of the weights with normalisation folded in; one range a tensor, symmetric for signed integers."""
    BatchNormFolding().rewrite(source, tmp_path / "folded.onnx", file_means())
    attack.rewrite(source, output, file_means())
    before, after = weights_of(tmp_path / "folded.onnx")[8, 1, 3, 3], weights_of(output)[8, 1, 3, 3]
    low, high = min(before.min(), 0), max(before.max(), 0)
    span = high - low if attack.label == "dynamic quantisation to uint8" else 2 * np.abs(before).max()
    step = span / levels
    assert np.abs(after - before).max() <= 0.5001 * step
    assert np.abs(after - before).max() > 0.2 * step
    assert len(np.unique(after)) <= levels + 1


def test_a_scale_for_each_channel_serves_small_filters_better(source: Path, output: Path, tmp_path: Path) -> None:
    BatchNormFolding().rewrite(source, tmp_path / "folded.onnx", file_means())
    before = weights_of(tmp_path / "folded.onnx")[8, 1, 3, 3]
    largest = np.abs(before).reshape(8, -1).max(axis=1)
    for form in ("qdq", "qoperator"):
        StaticQuantisation(per_channel=True, form=form).rewrite(source, output, file_means())
        error = np.abs(weights_of(output)[8, 1, 3, 3] - before).reshape(8, -1).max(axis=1)
        assert (error <= 0.5001 * 2 * largest / 254).all()


def test_activations_have_sixteen_bits_where_weights_do(source: Path, output: Path) -> None:
    found = {}
    for bits in (4, 8, 16):
        StaticQuantisation(bits).rewrite(source, output, file_means())
        found[bits] = {values.dtype.name for values in tensors_of(output).values()} & {"uint8", "uint16"}
    assert found == {4: {"uint8"}, 8: {"uint8"}, 16: {"uint16"}}


def test_shapes_that_contradict_do_not_stop_the_conversion_to_halves(source: Path, output: Path) -> None:
    model = onnx.load(source)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("f", 1, ["n", 7]))
    onnx.save(model, source)
    HalfPrecision().rewrite(source, output, file_means())
    assert relative_change(source, output) < 2e-3


def test_seven_bits_are_seven(source: Path, output: Path) -> None:
    DynamicQuantisation(7).rewrite(source, output, file_means())
    codes = [values for values in tensors_of(output).values() if values.dtype == np.int8 and values.size > 1]
    assert codes
    assert all(np.abs(values.astype(int)).max() == 64 for values in codes)


@pytest.mark.parametrize("symmetric", [False, True])
def test_blocks_of_sixteen_have_sixteen_levels(source: Path, output: Path, symmetric: bool) -> None:
    """MatMul of 8 x 40: one block of inputs, padded, for each of 40 outputs."""
    said = Int4Quantisation(16, symmetric).rewrite(source, output, file_means())
    assert "MatMul 1 → 0, MatMulNBits 0 → 1" in said[0]
    assert said[1] == "only MatMul is quantised; convolutions and Gemm are left as they are"
    (node,) = (node for node in onnx.load(output).graph.node if node.op_type == "MatMulNBits")
    assert len(node.input) == (3 if symmetric else 4), "zero points"
    assert {item.name: item.i for item in node.attribute}["block_size"] == 16
    before, after = tensors_of(source)["dense.weight"].T, weights_of(output)[40, 8]
    low, high = np.minimum(before.min(axis=1), 0), np.maximum(before.max(axis=1), 0)
    # The symmetric grid has eight steps on one side and seven on the other, the largest weight on the former.
    step = np.abs(before).max(axis=1) / 8 if symmetric else (high - low) / 15
    error = np.abs(after - before).max(axis=1)
    assert (error <= (1.001 if symmetric else 1.0) * step).all()
    assert (error > 0.1 * step).all()
    np.testing.assert_array_equal(weights_of(output)[8, 1, 3, 3], weights_of(source)[8, 1, 3, 3])


@pytest.mark.parametrize("attack", [DynamicQuantisation(), StaticQuantisation()], ids=lambda attack: attack.label)
def test_shapes_and_constants_that_the_quantiser_itself_refuses(source: Path, output: Path, attack: ToolAttack) -> None:
    """The two dead ends of tests/routes/README.md, taken together."""
    model = onnx.load(source)
    shape = {item.name: list(item.dims) for item in model.graph.initializer}["dense.weight"]
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("dense.weight", 1, shape))
    for tensor in model.graph.initializer:
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    onnx.save(model, source)
    attack.rewrite(source, output, file_means())
    assert relative_change(source, output) < 0.1


@pytest.mark.parametrize("attack", [DynamicQuantisation(), StaticQuantisation()], ids=lambda attack: attack.label)
def test_a_fixed_batch_is_respected(source: Path, output: Path, attack: ToolAttack) -> None:
    model = onnx.load(source)
    for item in (model.graph.input[0], model.graph.output[0]):
        item.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, source)
    attack.rewrite(source, output, file_means())
    assert relative_change(source, output) < 0.1


@pytest.mark.parametrize(
    "attack", [DynamicQuantisation(), StaticQuantisation(), Int4Quantisation()], ids=lambda attack: attack.label
)
def test_a_model_without_layers_to_quantise_is_refused(tmp_path: Path, output: Path, attack: ToolAttack) -> None:
    """It is optimised on the way, and that alone is no quantisation."""
    info = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Identity", ["images"], ["a"]), onnx.helper.make_node("Sqrt", ["a"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "g", [info("images", 1, ["n", 1, 28, 28])], [info("y", 1, None)])
    source = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), source)
    with pytest.raises(AttackError, match=r"onnxruntime \S+ finds nothing to do in it"):
        attack.rewrite(source, output, file_means())
    assert not output.exists()


def test_layers_out_of_the_quantisers_reach_are_no_success(tmp_path: Path, output: Path) -> None:
    """Convolutions inside branches: the dynamic quantiser changes other nodes and quantises none."""
    source = locate("silero-vad", "silero_vad_op18_ifless.onnx")
    if source is None:
        pytest.skip("needs a real model: pip install --no-deps silero-vad")
    for attack in (DynamicQuantisation(), Int4Quantisation()):
        with pytest.raises(AttackError, match="finds nothing to do in it"):
            attack.rewrite(source, output, file_means())


def test_a_real_model_with_weights_in_constants(tmp_path: Path, output: Path) -> None:
    source = locate("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    if source is None:
        pytest.skip("needs a real model: pip install --no-deps rapidocr-onnxruntime")
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, x=np.random.default_rng(0).uniform(-1, 1, (2, 3, 48, 192)).astype(np.float32))
    counts: dict[str, Any] = {}
    for attack in (DynamicQuantisation(), StaticQuantisation(per_channel=True), HalfPrecision()):
        attack.rewrite(source, output, file_means(inputs))
        with open_model(output) as model:
            counts[attack.label] = {site.dtype for site in model.sites() if site.op.startswith("Conv")}
            assert sum(site.op.startswith("Conv") for site in model.sites()) == 53
    assert counts == {
        "dynamic quantisation to int8": {"int8"},
        "static quantisation to int8, per channel": {"int8"},
        "float16 file": {"float16"},
    }


def test_the_shipped_model_decides_as_before(output: Path) -> None:
    """A thief keeps what he stole: 8 bits cost few decisions."""
    for attack in (HalfPrecision(), DynamicQuantisation(), StaticQuantisation(), StaticQuantisation(form="qoperator")):
        attack.rewrite(DEMO / "marked.onnx", output, file_means())
        changed = answers(output).argmax(axis=1) != answers(DEMO / "marked.onnx").argmax(axis=1)
        assert np.mean(changed) <= 0.1
