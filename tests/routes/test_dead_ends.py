"""Ways that lead nowhere: the tool refuses, or the file holds no weights. README.md lists them with the reasons."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from onnxmark.audit import audit_file
from onnxmark.errors import NotAModel
from tests.routes import graphs, runtime
from tests.routes.bench import Bench, quiet, saved
from tests.routes.table import optimised


def refusal(action, *arguments, **options) -> str:
    """What a tool says when it refuses."""
    try:
        with quiet():
            action(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no refusal"


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_weights_left_out_are_a_doubt_and_no_verdict(bench: Bench, tmp_path: Path, exporter: str) -> None:
    path = getattr(bench, exporter)(tmp_path / "m.onnx", export_params=False)
    (finding,) = audit_file(path, [bench.key]).findings
    assert finding.verdict == "inconclusive"


def test_an_ort_file_is_refused_with_the_way_that_works(bench: Bench, tmp_path: Path) -> None:
    runtime.resaved(bench.exported("torchscript"), tmp_path / "model.ort", "disabled", "ORT")
    with pytest.raises(NotAModel, match=r"is an ONNX Runtime flatbuffer \(.ort\), not an ONNX model") as refused:
        audit_file(tmp_path / "model.ort", [bench.key])
    advice = str(refused.value).partition("convert it first: ")[2]
    program, *arguments = shlex.split(advice)
    assert program == "onnxmark"
    subprocess.run([sys.executable, "-m", program, *arguments], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert audit_file(tmp_path / "model.onnx", [bench.key]).verdict == "match"


def test_onnx_runtime_refuses_what_onnxoptimizer_fused(bench: Bench, tmp_path: Path) -> None:
    pytest.importorskip("onnxoptimizer", reason="needs onnxoptimizer")
    path = saved(optimised("fuse_bn_into_conv")(bench.loaded("torchscript raw")), tmp_path / "m.onnx")
    assert "Duplicate definition of name" in refusal(runtime.resaved, path, tmp_path / "basic.onnx", "basic")
    assert audit_file(path, [bench.key]).verdict == "match"


def test_versions_are_not_converted_down(bench: Bench) -> None:
    assert "No Adapter" in refusal(onnx.version_converter.convert_version, bench.loaded("torchscript"), 9)


def test_torchscript_has_an_end(bench: Bench, tmp_path: Path) -> None:
    assert "Unsupported onnx_opset_version: 24" in refusal(bench.torchscript, tmp_path / "m.onnx", opset=24)


def test_the_quantiser_refuses_the_newer_exporters_shapes(bench: Bench, tmp_path: Path) -> None:
    said = refusal(runtime.dynamic, bench.exported("dynamo"), tmp_path / "m.onnx")
    assert "Inferred shape and existing shape differ" in said


def test_the_quantiser_wants_biases_as_initializers(bench: Bench, tmp_path: Path) -> None:
    path = saved(graphs.all_in_constants(bench.loaded("torchscript")), tmp_path / "constants.onnx")
    assert "to be an initializer" in refusal(runtime.dynamic, path, tmp_path / "m.onnx")


def test_the_quantiser_refuses_unsigned_weights_with_signed_activations(bench: Bench, tmp_path: Path) -> None:
    said = refusal(
        runtime.static, bench.exported("torchscript"), tmp_path / "m.onnx", "QOperator", "QUInt8", activation="QInt8"
    )
    assert "doesn't support data format" in said
