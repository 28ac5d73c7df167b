"""A tool under our hands: it sees a copy, says nothing, and what it did is told from what it left."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxmark.errors import AttackError, ExternalDataError, MissingExtra, ModelUnavailable, WeightsUnresolved
from onnxmark.model.deploying.deployment import Tool, convert, inventory
from tests.onnx_models import conv_chain, kernel

ONNX = Tool("onnx", "runtime")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return conv_chain(tmp_path / "m.onnx", [kernel((4, 3, 3, 3)), kernel((5, 4, 1, 1), 1)])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "m.onnx"


def without_relu(model: Any) -> Any:
    """A tool that takes the last node out."""
    last = model.graph.node.pop()
    model.graph.output[0].name = last.input[0]
    return model


def test_what_became_of_the_graph_is_told(source: Path, output: Path) -> None:
    said = convert(source, output, ONNX, without_relu)
    assert said == (f"onnx {onnx.__version__}: 4 nodes became 3 (Relu 2 → 1)",)
    assert [node.op_type for node in onnx.load(output).graph.node] == ["Conv", "Relu", "Conv"]


def test_operators_that_only_changed_places_are_told_so(source: Path, output: Path) -> None:
    def renamed(model: Any) -> Any:
        model.graph.initializer[0].name = model.graph.node[0].input[1] = "other"
        return model

    (said,) = convert(source, output, ONNX, renamed)
    assert said.endswith(": 4 nodes became 4, of the same operators")


def test_the_source_is_left_alone_whatever_the_tool_does(source: Path, output: Path) -> None:
    before = source.read_bytes()
    convert(source, output, ONNX, without_relu)
    assert source.read_bytes() == before
    assert sorted(path.name for path in source.parent.iterdir()) == ["m.onnx", "out"]
    assert [path.name for path in output.parent.iterdir()] == ["m.onnx"]


def test_external_data_come_inside(source: Path, output: Path) -> None:
    model = onnx.load(source)
    onnx.save(model, source, save_as_external_data=True, location="w.bin", size_threshold=0)
    convert(source, output, ONNX, without_relu)
    assert not onnx.load(output, load_external_data=False).graph.initializer[0].external_data
    np.testing.assert_array_equal(numpy_helper.to_array(onnx.load(output).graph.initializer[0]), kernel((4, 3, 3, 3)))


def test_external_data_outside_the_directory_never_reach_a_tool(source: Path, output: Path) -> None:
    model = onnx.load(source)
    (source.parent.parent / "secret.bin").write_bytes(bytes(4 * 4 * 27))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    source.write_bytes(model.SerializeToString())
    with pytest.raises(ExternalDataError, match=r"contains '\.\.'"):
        convert(source, output, ONNX, without_relu)


def test_nothing_reaches_the_terminal(
    source: Path, output: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loud(model: Any) -> Any:
        print("from Python")
        print("its errors", file=sys.stderr)
        os.write(1, b"from C++\n")
        os.write(2, b"its errors\n")
        logging.getLogger("tool").critical("a log line")
        logging.critical("another")
        warnings.warn("a warning", stacklevel=1)
        subprocess.run([sys.executable, "-c", "print('a child')"], check=True)
        return without_relu(model)

    monkeypatch.setattr(logging.root.manager, "disable", 7)
    filters = list(warnings.filters)
    print("before")
    convert(source, output, ONNX, loud)
    print("after")
    os.write(2, b"and after\n")
    assert capfd.readouterr() == ("before\nafter\n", "and after\n")
    assert logging.root.manager.disable == 7
    assert warnings.filters == filters


def test_the_terminal_is_given_back_after_a_failure(
    source: Path, output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def failing(model: Any) -> Any:
        os.write(1, b"about to fail\n")
        raise RuntimeError("no")

    with pytest.raises(AttackError, match="fails on it"):
        convert(source, output, ONNX, failing)
    os.write(1, b"heard\n")
    assert capfd.readouterr().out == "heard\n"


def test_no_descriptor_is_left_open(source: Path, output: Path) -> None:
    ours = Path("/proc/self/fd")
    if not ours.is_dir():
        pytest.skip("needs /proc")
    convert(source, output, ONNX, without_relu)
    before = len(list(ours.iterdir()))
    for _ in range(5):
        convert(source, output, ONNX, without_relu)
    assert len(list(ours.iterdir())) == before


def test_a_process_without_a_terminal(source: Path, output: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from tests.model.test_deployment import ONNX, convert, without_relu\n"
        "os.close(1); os.close(2)\n"
        f"convert(Path({str(source)!r}), Path({str(output)!r}), ONNX, without_relu)\nos._exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 7
    assert output.is_file()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("line one\n   line two\n"), "line one line two"),
        (KeyError("name"), "'name'"),
        (ValueError(), "ValueError"),
        (ImportError("No module named 'sympy'"), "No module named 'sympy'"),
        (RuntimeError("x" * 1000), "x" * 300),
    ],
)
def test_failures_become_one_line(source: Path, output: Path, error: Exception, words: str) -> None:
    def failing(model: Any) -> Any:
        raise error

    with pytest.raises(AttackError, match=r"m\.onnx': onnx fails on it") as caught:
        convert(source, output, ONNX, failing)
    assert str(caught.value) == f"{str(source)!r}: onnx fails on it ({words}); try another attack"
    assert caught.value.__cause__ is error
    assert list(output.parent.iterdir()) == []


def test_our_own_errors_pass_as_they_are(source: Path, output: Path) -> None:
    def failing(model: Any) -> Any:
        raise WeightsUnresolved("ours")

    with pytest.raises(WeightsUnresolved, match=r"^ours$"):
        convert(source, output, ONNX, failing)


def annotated(model: Any) -> Any:
    """A tool that changes only what is said about the model."""
    model.producer_name = "tool"
    model.metadata_props.add(key="tool", value="was here")
    for message in (*model.graph.node, *model.graph.initializer):
        message.doc_string = "seen"
    for node in model.graph.node:
        node.metadata_props.add(key="tool", value="was here")
    del model.graph.value_info[:]
    return model


@pytest.mark.parametrize("change", [lambda model: model, lambda model: None, annotated])
def test_a_tool_that_changes_nothing_is_no_attack(source: Path, output: Path, change: Any) -> None:
    with pytest.raises(AttackError, match=r"m\.onnx': onnx \S+ finds nothing to do in it; try another attack"):
        convert(source, output, ONNX, change)
    assert list(output.parent.iterdir()) == []


def test_a_changed_attribute_or_weight_is_a_change(source: Path) -> None:
    before = inventory(onnx.load(source))
    model = onnx.load(source)
    model.graph.node[0].attribute[0].ints[0] += 1
    assert inventory(model).digest != before.digest
    model = onnx.load(source)
    raw = bytearray(model.graph.initializer[1].raw_data)
    raw[-1] ^= 1
    model.graph.initializer[1].raw_data = bytes(raw)
    assert inventory(model).digest != before.digest
    assert inventory(annotated(onnx.load(source))) == before


def test_nodes_inside_nodes_count() -> None:
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"])], "inner", [], [helper.make_tensor_value_info("z", 1, None)]
    )
    choice = helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner)
    model = helper.make_model(helper.make_graph([choice], "g", [], []))
    assert dict(inventory(model).operators) == {"If": 1, "Relu": 2}


def test_what_onnx_runtime_cannot_load_is_said(source: Path, output: Path) -> None:
    pytest.importorskip("onnxruntime")

    def broken(model: Any) -> Any:
        model.graph.node[1].op_type = "Nonsense"
        return model

    _, objection = convert(source, output, ONNX, broken)
    assert objection.startswith("the result cannot be run: ")
    assert "Nonsense" in objection
    assert output.is_file()


def test_a_tool_that_is_not_installed(source: Path, output: Path) -> None:
    tool = Tool("onnxmark_no_such_tool", "tools")
    with pytest.raises(MissingExtra, match=r"needs onnxmark_no_such_tool, .* run: pip install 'onnxmark\[tools\]'"):
        convert(source, output, tool, without_relu)


def test_a_model_that_is_not_there(tmp_path: Path, output: Path) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be opened"):
        convert(tmp_path / "none.onnx", output, ONNX, without_relu)
