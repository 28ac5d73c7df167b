"""Matrix products as ONNX Runtime fuses and quantises them: the weights we read give the outputs it computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxmark.model import open_model
from tests.model.models import info, model, runtime, save, tensor, weights

ort = pytest.importorskip("onnxruntime")
OPSETS = [helper.make_opsetid("", 17)]
W = weights(32, 6)
B = weights(6, seed=3)


def plain(*nodes: onnx.NodeProto, w: np.ndarray = W) -> onnx.ModelProto:
    made = model(nodes, [tensor("w", w), tensor("v", weights(32, 6, seed=4)), tensor("b", B)], opsets=OPSETS, ir=8)
    del made.graph.input[:], made.graph.output[:]
    made.graph.input.append(info("x", [16, 32]))
    made.graph.output.append(info("y", [16, 6]))
    return made


def node(op: str, inputs: str, out: str = "y", **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [out], name=f"{op}_{out}", **attributes)


def optimised(path: Path, out: Path) -> Path:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(out)
    options.log_severity_level = 4
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return out


def dynamic(made: onnx.ModelProto, folder: Path) -> Path:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(save(made, folder / "plain.onnx")), str(folder / "q.onnx"))
    return optimised(folder / "q.onnx", folder / "m.onnx")


def static(made: onnx.ModelProto, folder: Path) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        batches = iter([{"x": weights(16, 32, seed=9)}])

        def get_next(self):
            return next(self.batches, None)

    save(made, folder / "plain.onnx")
    quantize_static(str(folder / "plain.onnx"), str(folder / "m.onnx"), Reader(), quant_format=QuantFormat.QOperator)
    return folder / "m.onnx"


def fused(made: onnx.ModelProto, folder: Path) -> Path:
    return optimised(save(made, folder / "plain.onnx"), folder / "m.onnx")


CASES = {
    "DynamicQuantizeMatMul": (dynamic, plain(node("MatMul", "x w", "m"), node("Add", "m b")), 0.05),
    "MatMulIntegerToFloat": (
        dynamic, plain(node("MatMul", "x w", "m"), node("MatMul", "x v", "n"), node("Add", "m n")), 0.1,
    ),
    "QGemm": (static, plain(node("Gemm", "x w b")), 0.2),
    "QGemm, transposed": (static, plain(node("Gemm", "x w b", transB=1), w=np.ascontiguousarray(W.T)), 0.2),
    "QLinearMatMul": (static, plain(node("MatMul", "x w")), 0.2),
    "FusedGemm": (fused, plain(node("Gemm", "x w b", "g"), node("Relu", "g")), 1e-4),
    "FusedMatMul": (fused, plain(node("Mul", "x half", "h"), node("MatMul", "h w")), 1e-4),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_fused_and_quantised_products(tmp_path: Path, case: str) -> None:
    write, made, tolerance = CASES[case]
    made.graph.initializer.append(tensor("half", np.float32(0.5)))
    path = write(made, tmp_path)
    operator = case.split(",", maxsplit=1)[0]
    with open_model(path) as opened:
        site = next(site for site in opened.sites() if site.op == operator)
        found = opened.read(site).values
    assert found.shape == (6, 32)
    assert np.abs(found - W.T).max() <= (0.0 if operator.startswith("Fused") else np.abs(W).max() / 127)
    (y,) = runtime(onnx.load(str(path)), {"x": weights(16, 32, seed=9)})
    (expected,) = runtime(made, {"x": weights(16, 32, seed=9)})
    np.testing.assert_allclose(y, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("left", "trans"), [(False, 0), (False, 1), (True, 0), (True, 1)])
def test_a_product_told_to_transpose_either_factor(tmp_path: Path, left: bool, trans: int) -> None:
    """com.microsoft::FusedMatMul transposes both; the output channels are the axis that the product keeps."""
    w = weights(5, 7)
    attributes = {"transA" if left else "transB": trans}
    fuse = helper.make_node(
        "FusedMatMul", ["w", "x"] if left else ["x", "w"], ["y"], domain="com.microsoft", **attributes
    )
    opsets = [*OPSETS, helper.make_opsetid("com.microsoft", 1)]
    made = model([fuse], [tensor("w", w)], opsets=opsets, ir=8)
    with open_model(save(made, tmp_path / "m.onnx")) as opened:
        (found,) = opened.weights().values()
    used = w.T if trans else w
    outputs, inputs = used.shape if left else used.shape[::-1]
    assert found.shape == (outputs, inputs)
    (y,) = runtime(made, {"x": np.eye(inputs, dtype=np.float32)})
    np.testing.assert_array_equal(found.values, y if left else y.T)
