"""Plans from text: every key means what it says, and every mistake has one line that names it."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from onnxmark.errors import PlanError
from onnxmark.evaluation import EXAMPLE, STANDARD, Embedding, Training, load_plan, parse_plan
from onnxmark.verdict import Policy
from tests.evaluation import toy

PLANS = sorted((Path(__file__).resolve().parents[2] / "benchmarks" / "evaluation").glob("*.toml"))


def test_the_example_is_a_plan_with_every_table():
    plan = parse_plan(EXAMPLE)
    assert (plan.networks, plan.payloads, plan.seed, plan.laboratory) == (2, 2, 1, "torch")
    assert [each.name for each in plan.modifications] == [each.name for each in STANDARD]
    assert [each.id for each in plan.modifications] == [0, 1, 2, 3, 4, 5, 6]
    assert [each.scheme for each in plan.schemes] == ["projection", "projection", "constant-weight", "ingrain"]
    assert set(tomllib.loads(EXAMPLE)) == set(asdict(plan)) | {"bits"}


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_plans_of_the_benchmarks_are_comparative(path):
    """Three networks, four payloads, the seven modifications, five schemes of ours."""
    plan = load_plan(path)
    assert plan.networks >= 3
    assert plan.payloads >= 4
    assert sorted(each.id for each in plan.modifications) == list(range(7))
    assert {each.scheme for each in plan.schemes} == {"projection", "constant-weight", "structural", "ingrain"}
    assert len(plan.schemes) >= 5


def test_what_is_not_said_has_defaults():
    plan = parse_plan(toy.TOML)
    assert plan.title == "Evaluation of watermarks"
    assert plan.policy == Policy()
    assert plan.fine_tuning == Training(1, 20, 0.1 / 5)
    assert [scheme.bits for scheme in plan.schemes] == [24, 24]
    assert [scheme.embedding for scheme in plan.schemes] == [Embedding.CLOSED_FORM, Embedding.FINE_TUNING]
    assert plan.task.n_training == 600
    assert plan.task.n_test is None
    assert [each.name for each in plan.modifications] == [each.name for each in STANDARD]


def test_epochs_are_counted_from_the_training():
    """Up to half of the initial epochs for fine-tuning, up to all of them for distillation."""
    grids = {each.name: each.values for each in parse_plan(toy.TOML).modifications}
    assert grids["fine-tuning"] == (1, 2)
    assert grids["distillation"] == (2, 4)
    few = parse_plan(toy.TOML.replace("epochs = 4", "epochs = 1"))
    assert {each.name: each.values for each in few.modifications}["fine-tuning"] == (1,)


def test_a_row_of_the_standard_is_changed_where_the_plan_says_so():
    row = '\n[[modifications]]\nname = "quantizing"\nid = 4\nvalues = [8]\nsettings = { per_channel = true }\n'
    (changed,) = parse_plan(toy.TOML + row).modifications
    usual = next(each for each in STANDARD if each.name == "quantizing")
    assert changed == replace(usual, id=4, values=(8,), settings=(("per_channel", True),))


def test_the_other_half_of_the_fourth_is_in_no_plan_that_does_not_ask_for_it():
    row = '\n[[modifications]]\nname = "transfer"\nsettings = { elsewhere = "digits" }\n'
    (transfer,) = parse_plan(toy.TOML + row).modifications
    assert (transfer.id, transfer.words, transfer.values, transfer.trains) == (4, "transfer learning", (1, 2), True)
    assert transfer.settings == (("elsewhere", "digits"),)
    assert "transfer" not in [each.name for each in parse_plan(toy.TOML).modifications]


def test_any_attack_on_files_can_be_a_modification():
    row = '\n[[modifications]]\nname = "ranks"\nattack = "low-rank"\nvalues = [50]\ndivisor = 100\nunit = "%"\n'
    (own,) = parse_plan(toy.TOML + row).modifications
    assert (own.id, own.attack, own.strength(50), own.trains) == (None, "low-rank", 0.5, False)


def test_networks_take_turns_in_architectures():
    plan = replace(parse_plan(toy.TOML), networks=5)
    assert [plan.architecture(number).name for number in range(5)] == ["one", "other", "one", "other", "one"]


def test_a_file_is_read(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(toy.TOML)
    assert load_plan(path) == parse_plan(toy.TOML)


def test_the_digest_is_that_of_the_canonical_plan():
    plan = parse_plan(toy.TOML)
    text = json.dumps(asdict(plan), sort_keys=True, separators=(",", ":"))
    assert plan.digest == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_does_not_depend_on_how_the_plan_is_written():
    shuffled = toy.TOML.replace("epochs = 4\nbatch_size = 20\n", "batch_size = 20\n# a remark\nepochs = 4\n")
    assert parse_plan(shuffled.replace("rate = 0.1", "rate = 1e-1")).digest == parse_plan(toy.TOML).digest


@pytest.mark.parametrize(
    "change",
    [
        ("seed = 5", "seed = 6"),
        ("payloads = 2", "payloads = 3"),
        ("epochs = 4", "epochs = 5"),
        ('name = "full"', 'name = "Full"'),
        ('scheme = "projection"', 'scheme = "projection"\nsettings = { carrier = "full" }'),
        ('scheme = "projection"', 'scheme = "projection"\nmeans = { margin = 1.0 }'),
        ('name = "other"', 'name = "other"\nwidth = 3'),
        ("[training]", "[policy]\nalpha = 1e-3\n[training]"),
    ],
)
def test_whatever_shapes_a_figure_shapes_the_digest(change):
    assert parse_plan(toy.TOML.replace(*change)).digest != parse_plan(toy.TOML).digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seed = 5", "seed = "), "plan is not TOML: Invalid value"),
        (("seed = 5", "sead = 5"), "plan has no key 'sead' .*; did you mean 'seed'"),
        (("networks = 2\n", ""), "plan: 'networks' is missing; give a whole number"),
        (("networks = 2", "networks = 0"), "plan: 'networks' must be at least 1, found 0"),
        (("networks = 2", "networks = true"), "plan: 'networks' must be a whole number, found True"),
        (("networks = 2", "networks = 2.0"), "plan: 'networks' must be a whole number, found 2.0"),
        (("bits = 24", 'bits = "24"'), "plan: 'bits' must be a whole number, found '24'"),
        (("seed = 5", "seed = -1"), "plan: 'seed' must be at least 0, found -1"),
        (('[task]\nname = "toy"', "[task]"), r"plan, \[task\]: 'name' is missing; give a text"),
        (('name = "toy"', 'name = "toy"\nn_trainig = 3'), r"plan, \[task\] has no key 'n_trainig' .*'n_training'"),
        (("[task]", "[[task]]"), "plan: 'task' must be a table, found"),
        (("epochs = 4", "epochs = 0"), r"plan, \[training\]: 'epochs' must be at least 1, found 0"),
        (("batch_size = 20", "batch_size = 1"), r"plan, \[training\]: epochs are at least 1 and batches at least 2"),
        (("rate = 0.1", "rate = -0.1"), r"plan, \[training\]: the rate must be above 0 and finite, not -0.1"),
        (("rate = 0.1", "rate = inf"), r"plan, \[training\]: the rate must be above 0 and finite, not inf"),
        (("[training]", "[policy]\nalpha = 1\n[training]"), r"plan, \[policy\]: alpha must lie between 0 and 1"),
        (('name = "code"', 'name = "full"'), "plan: two schemes are called alike among 'full', 'full'"),
        (('"fine-tuning"', '"magic"'), r"\[\[schemes\]\] 2: 'embedding' must be one of closed-form, .*found 'magic'"),
        (('scheme = "projection"', ""), r"plan, \[\[schemes\]\] 1: 'scheme' is missing; give a text"),
        (('scheme = "projection"', 'scheme = "projection"\nlayers = [1]'), r"'layers' must be a list of texts"),
        (('scheme = "projection"', 'scheme = "projection"\nsettings = 3'), r"'settings' must be a table, found 3"),
        (
            ('scheme = "projection"', 'scheme = "projection"\nsettings = { a = [1] }'),
            "settings: 'a' must be a text, a num",
        ),
        (('name = "one"', 'name = "one"\nwidth = [1]'), r"\[\[architectures\]\] 1: 'width' must be a text, a number"),
    ],
)
def test_mistakes_have_one_line_that_names_them(change, message):
    assert change[0] in toy.TOML
    with pytest.raises(PlanError, match=message) as caught:
        parse_plan(toy.TOML.replace(*change, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", ["architectures", "schemes"])
def test_a_plan_names_at_least_one_of_everything(table):
    head = (
        toy.HEAD
        if table == "schemes"
        else toy.TOML.replace('[[architectures]]\nname = "one"\n', "").replace(
            '[[architectures]]\nname = "other"\n', ""
        )
    )
    with pytest.raises(PlanError, match=rf"plan: has no \[\[{table}\]\]; name one at least"):
        parse_plan(head)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('name = "rot"\nvalues = [1]', "'rot' is none of noise, .*; give the 'attack' on files that carries it out"),
        ('name = "rot"\nattack = "noise"', "'values' is missing; give a list of numbers"),
        ('name = "noise"\nvalues = ["much"]', r"'values' must be a list of numbers, found \['much'\]"),
        ('name = "noise"\nvalues = [true]', "'values' must be a list of numbers"),
        ('name = "noise"\nvaluse = [1]', "has no key 'valuse' .*; did you mean 'values'"),
        ('name = "fine-tuning"\nattack = "noise"', "'fine-tuning' trains networks and takes no 'attack'"),
        ('name = "noise"\n[[modifications]]\nname = "noise"', "two modifications are called alike"),
        ('name = "noise"\ndivisor = 0', "'divisor' must be at least 1, found 0"),
    ],
)
def test_mistakes_in_modifications_have_one_line_that_names_them(row, message):
    with pytest.raises(PlanError, match=message):
        parse_plan(f"{toy.TOML}\n[[modifications]]\n{row}\n")


def test_lists_of_tables_are_lists_of_tables():
    with pytest.raises(
        PlanError, match=r"'modifications' must be a list of tables, as \[\[modifications\]\] makes them"
    ):
        parse_plan("modifications = [1]\n" + toy.TOML)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(PlanError, match=r"plan '.*none.toml' cannot be read: No such file or directory"):
        load_plan(tmp_path / "none.toml")


def test_a_file_that_is_no_text_is_told(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="is not text in UTF-8; give the TOML file of a plan"):
        load_plan(path)


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(PlanError, match="is larger than 1 MiB"):
        load_plan(path)


def test_tables_nested_beyond_reason_are_told():
    with pytest.raises(PlanError, match="plan is not TOML"):
        parse_plan("a = " + "[" * 100_000)
