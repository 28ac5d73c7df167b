"""What every attack by a tool promises, held against each of them."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("onnxsim", reason="needs onnxsim")
pytest.importorskip("onnxslim", reason="needs onnxslim")
pytest.importorskip("onnxoptimizer", reason="needs onnxoptimizer")

import onnxmark.tools
from onnxmark.attacks import Need
from onnxmark.audit import audit_file
from onnxmark.errors import AttackError, CalibrationError, MissingExtra, ModelError, ModelUnavailable
from onnxmark.keys import load_key
from onnxmark.model import open_model
from onnxmark.tools import RuntimeOptimisation, Simplification, StaticQuantisation
from onnxmark.tools.tool import ToolAttack
from tests.tools.subjects import DEMO, EVERY_RECIPE, RECIPES, file_means, net, relative_change

INSTALLED = {entry.name: entry for entry in entry_points(group="onnxmark.attacks") if ".tools." in entry.value}
every_recipe = pytest.mark.parametrize("attack", EVERY_RECIPE, ids=lambda attack: attack.label)
# What a tool may change the answers of `net` by: rounding for one that only rewrites the graph, else the grid's share.
CHANGES = {"to-float16": 2e-3, "ort-dynamic": 0.05, "ort-static": 0.1, "ort-int4": 0.2}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "m.onnx"


def test_every_tool_is_installed_under_its_name_and_tried() -> None:
    assert {name: entry.load() for name, entry in INSTALLED.items()} == {
        name: type(recipes[0]) for name, recipes in RECIPES.items()
    }
    assert {entry.load().__name__ for entry in INSTALLED.values()} == set(onnxmark.tools.__all__)


@every_recipe
def test_it_is_a_frozen_value_that_describes_itself(attack: ToolAttack) -> None:
    names = {name: getattr(onnxmark.tools, name) for name in onnxmark.tools.__all__}
    assert eval(repr(attack), names) == attack
    assert pickle.loads(pickle.dumps(attack)) == attack
    assert type(attack)(**{field.name: getattr(attack, field.name) for field in fields(attack)}) == attack
    assert isinstance(attack.parameter, float)
    assert ";" in attack.summary
    assert "\n" not in attack.summary
    assert attack.name in RECIPES
    assert not attack.random
    for field in fields(attack):
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{field.name}'"):
            setattr(attack, field.name, 1)


def test_labels_tell_recipes_apart() -> None:
    assert len({attack.label for attack in EVERY_RECIPE}) == len(EVERY_RECIPE)


@pytest.mark.parametrize("name", RECIPES)
def test_strengths_are_values_of_the_main_parameter(name: str) -> None:
    made = [type(RECIPES[name][0])(value) for value in RECIPES[name][0].strengths]
    assert len({attack.label for attack in made}) == len(made)


@every_recipe
def test_the_result_runs_and_answers_much_as_before(attack: ToolAttack, tmp_path: Path, output: Path) -> None:
    source = net(tmp_path / "m.onnx")
    before = source.read_bytes()
    said = attack.rewrite(source, output, file_means())
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "out"]
    assert [path.name for path in output.parent.iterdir()] == ["m.onnx"]
    with open_model(output) as model:
        assert all(site.problem is None for site in model.sites() if site.op.startswith("Conv"))
    assert said[0].startswith(attack.tool.package)
    assert all("\n" not in sentence for sentence in said)
    assert not any("cannot be run" in sentence for sentence in said)
    assert relative_change(source, output) <= CHANGES.get(attack.name, 1e-5)


@every_recipe
def test_a_second_run_writes_the_same_tensors(attack: ToolAttack, tmp_path: Path, output: Path) -> None:
    import onnx

    source = net(tmp_path / "m.onnx")
    models = []
    for _ in range(2):
        attack.rewrite(source, output, file_means())
        models.append(onnx.load(output).graph)
    assert models[0].initializer == models[1].initializer
    assert [node.op_type for node in models[0].node] == [node.op_type for node in models[1].node]


# They find nothing to do in the shipped model, which its exporter has optimised, and which has no MatMul.
IDLE = {
    "ONNX Runtime, basic optimisations",
    "onnxsim",
    "onnxoptimizer",
    "int4 quantisation in blocks of 32",
    "int4 quantisation in blocks of 16, symmetric",
}


@every_recipe
def test_the_shipped_mark_is_found_in_what_the_tool_leaves(attack: ToolAttack, output: Path) -> None:
    if attack.label in IDLE:
        with pytest.raises(AttackError, match=rf"{attack.tool.package} \S+ finds nothing to do in it"):
            attack.rewrite(DEMO / "marked.onnx", output, file_means())
        assert list(output.parent.iterdir()) == []
        return
    attack.rewrite(DEMO / "marked.onnx", output, file_means())
    (finding,) = audit_file(output, [load_key(DEMO / "key.npy")]).findings
    (stranger,) = audit_file(output, [load_key(DEMO / "other_key.npy")]).findings
    assert (finding.verdict, stranger.verdict) == ("match", "no-match")


@every_recipe
def test_layers_cannot_be_chosen_and_the_report_says_so(attack: ToolAttack, tmp_path: Path, output: Path) -> None:
    said = attack.rewrite(net(tmp_path / "m.onnx"), output, file_means(layers=("conv.weight",)))
    assert said[-1] == f"{attack.tool.package} rewrites all layers, not only those named"


@every_recipe
def test_models_that_cannot_be_read_are_refused_as_such(attack: ToolAttack, tmp_path: Path, output: Path) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be opened"):
        attack.rewrite(tmp_path / "none.onnx", output, file_means())
    (tmp_path / "cut.onnx").write_bytes(net(tmp_path / "m.onnx").read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"cut\.onnx"):
        attack.rewrite(tmp_path / "cut.onnx", output, file_means())
    assert list(output.parent.iterdir()) == []


@every_recipe
def test_nothing_is_printed(
    attack: ToolAttack, tmp_path: Path, output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    attack.rewrite(net(tmp_path / "m.onnx"), output, file_means())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", RECIPES)
def test_a_tool_that_is_not_installed_is_named_with_the_cure(
    name: str, tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = RECIPES[name][0]
    monkeypatch.setitem(__import__("sys").modules, attack.tool.package, None)
    cure = rf"needs {attack.tool.package}, .*pip install 'onnxmark\[{attack.tool.extra}\]'"
    with pytest.raises(MissingExtra, match=cure):
        attack.rewrite(net(tmp_path / "m.onnx"), output, file_means())


@pytest.mark.parametrize("attack", RECIPES["ort-static"], ids=lambda attack: attack.label)
def test_calibration_is_asked_for(attack: StaticQuantisation, tmp_path: Path, output: Path) -> None:
    assert attack.needs == (Need.CALIBRATION,)
    with pytest.raises(AttackError, match=r"attack 'ort-static' on .* needs inputs of the model; give --calibration"):
        attack.rewrite(net(tmp_path / "m.onnx"), output, file_means(calibration=None))


def test_calibration_that_does_not_fit_is_refused_in_the_readers_words(tmp_path: Path, output: Path) -> None:
    import numpy as np

    np.savez(tmp_path / "wrong.npz", images=np.zeros((4, 3, 28, 28), np.float32))
    with pytest.raises(CalibrationError, match=r"input 'images': has shape \(4, 3, 28, 28\); the model wants"):
        StaticQuantisation().rewrite(net(tmp_path / "m.onnx"), output, file_means(tmp_path / "wrong.npz"))


def test_the_machines_own_layout_is_said_to_be_that(tmp_path: Path, output: Path) -> None:
    for attack in RECIPES["ort-optimize"]:
        said = attack.rewrite(net(tmp_path / "m.onnx"), output, file_means())
        told = any("laid out for this machine's processor" in sentence for sentence in said)
        assert told == (attack.level in ("layout", "all"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RuntimeOptimisation("none"), "level must be one of basic, extended, layout, all, found 'none'"),
        (lambda: onnxmark.tools.DynamicQuantisation(4), "bits must be one of 7, 8 for the dynamic quantiser, found 4"),
        (lambda: onnxmark.tools.DynamicQuantisation(8.0), r"bits must be one of 7, 8 .* found 8\.0"),
        (lambda: StaticQuantisation(5), "bits must be one of 4, 8, 16 for the form 'qdq', found 5"),
        (lambda: StaticQuantisation(16, form="qoperator"), "bits must be one of 8 for the form 'qoperator', found 16"),
        (lambda: StaticQuantisation(form="QDQ"), "form must be one of qdq, qoperator, found 'QDQ'"),
        (lambda: onnxmark.tools.Int4Quantisation(24), "block must be 16, 32, 64, 128 or 256, found 24"),
        (lambda: onnxmark.tools.Int4Quantisation(True), "block must be .* found True"),
    ],
)
def test_parameters_out_of_range_are_the_callers_mistake(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_parameters_are_numbers_that_order_a_sweep() -> None:
    assert [attack.parameter for attack in RECIPES["ort-optimize"]] == [1, 2, 3, 4]
    assert Simplification().parameter == 1
    assert [attack.parameter for attack in RECIPES["ort-dynamic"]] == [8, 7, 8]
