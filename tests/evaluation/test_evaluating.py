"""Whole evaluations in the toy laboratory: the document, its repetition, and what does not apply."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from onnxmark.errors import JournalError, LaboratoryError, PluginError, SettingError
from onnxmark.evaluation import evaluate, parse_plan
from onnxmark.keys import load_key
from onnxmark.report.schema import validate
from tests.evaluation import toy

PLAN = parse_plan(toy.TOML + toy.MODIFICATIONS)


@pytest.fixture(scope="module")
def document():
    return evaluate(PLAN, toy.laboratory)


def scheme(document, name):
    return next(each for each in document["schemes"] if each["name"] == name)


def point(document, name, modification, place=0):
    rows = {row["modification"]: row for row in scheme(document, name)["robustness"]}
    return rows[modification]["points"][place]


def test_the_document_is_valid_and_plain_json(document):
    validate(document)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["status"] == "complete"


def test_every_network_and_payload_is_there(document):
    for name in ("full", "code"):
        cells = scheme(document, name)["imperceptibility"]["cells"]
        assert [(cell["network"], cell["payload"]) for cell in cells] == [(m, d) for m in (1, 2) for d in (1, 2)]
        found = point(document, name, "none")
        assert (found["n_unmarked"], found["n_marked"], found["n_networks"], found["n_failed"]) == (2, 4, 6, 0)


def test_all_modifications_are_there_in_the_plans_order(document):
    rows = scheme(document, "full")["robustness"]
    assert [row["modification"] for row in rows] == ["none", *(row.name for row in PLAN.modifications)]
    assert [row["id"] for row in rows] == [None, 0, 1, 4, 5, 6]
    assert [[each["value"] for each in row["points"]] for row in rows] == [[None], [0.1, 0.2], [50], [1], [2], [1]]


@pytest.mark.parametrize("name", ["full", "code"])
def test_marks_are_found_where_they_are_and_nowhere_else(document, name):
    as_they_are = point(document, name, "none")
    assert (as_they_are["false_positives"], as_they_are["false_negatives"]) == (0, 0)
    assert as_they_are["symbol_error_rate"]["mean"] == 0
    assert 0.35 < as_they_are["unmarked_symbol_error_rate"]["mean"] < 0.65
    assert scheme(document, name)["doubts"] == []


@pytest.mark.parametrize("name", ["full", "code"])
def test_a_student_drawn_anew_has_no_mark(document, name):
    found = point(document, name, "distillation")
    assert found["false_negatives"] == 4
    assert found["false_negative_rate"] == 4 / 6
    assert 0.3 < found["symbol_error_rate"]["mean"] < 0.7


def test_a_mark_in_closed_form_costs_no_epochs(document):
    injection = scheme(document, "full")["cost"]["injection"]
    assert (injection["epochs"], injection["seconds_per_batch"], injection["batches_per_epoch"]) == (None, None, None)
    assert injection["seconds"]["n"] == 4
    assert injection["memory_bytes"]["mean"] > 10e6


def test_a_trained_mark_is_compared_with_its_twin(document):
    """The toy takes half a second an epoch and trains one epoch of 30 batches when it fine-tunes."""
    injection = scheme(document, "code")["cost"]["injection"]
    assert injection["epochs"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 4}
    assert injection["batches_per_epoch"] == 30
    assert injection["seconds_per_batch"]["mean"] == pytest.approx(0.5 / 30)
    assert injection["unmarked_seconds_per_batch"]["n"] == 2
    unmarked = {cell["network"]: cell["unmarked"] for cell in scheme(document, "code")["imperceptibility"]["cells"]}
    finished = {cell["network"]: cell["unmarked"] for cell in scheme(document, "full")["imperceptibility"]["cells"]}
    assert unmarked.keys() == finished.keys()
    assert all(unmarked[network] != finished[network] for network in unmarked)


def test_reading_takes_time_and_memory(document):
    cost = scheme(document, "full")["cost"]
    for role in ("detection", "decoding"):
        assert cost[role]["seconds"]["n"] == 4
        assert 0 < cost[role]["seconds"]["mean"] < 5
        assert cost[role]["memory_bytes"]["mean"] > 10e6


def test_the_data_rule_is_checked_and_its_violation_stated(document):
    for architecture in document["plan"]["architectures"]:
        rule = {"needed": 10 * toy.N_PARAMETERS, "have": 600, "met": False}
        assert architecture["data_rule"] == rule
    assert any("ten times as many data" in each and "60,800" in each for each in document["limits"])


def test_the_environment_is_recorded(document):
    environment = document["environment"]
    assert environment["laboratory"] == "toy 1"
    assert environment["workers"] == environment["threads_per_worker"] == 1
    assert {"numpy", "onnx", "onnxruntime"} <= environment["packages"].keys()
    assert environment["memory_bytes"] > 1e8
    assert document["further_environments"] == []


def test_an_evaluation_that_went_on_elsewhere_says_so(tmp_path):
    """The journal loses a cell, which a run with more workers makes up for; one that only reads leaves no trace."""
    plan, journal = parse_plan(toy.SMALL), tmp_path / "journal"
    evaluate(plan, toy.laboratory, journal=journal)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    document = evaluate(plan, toy.laboratory, journal=journal, jobs=2)
    assert [document["environment"]["workers"], *(each["workers"] for each in document["further_environments"])] == [
        1,
        2,
    ]
    again = evaluate(plan, toy.laboratory, journal=journal, jobs=5)
    assert (again["environment"], again["further_environments"]) == (
        document["environment"],
        document["further_environments"],
    )
    validate(document)


def test_another_seed_gives_other_keys(document):
    one, other = (
        evaluate(parse_plan(toy.SMALL.replace("seed = 5", f"seed = {seed}")), toy.laboratory) for seed in (5, 6)
    )
    assert one["nnt"]["payloads"] == document["nnt"]["payloads"][:1]
    assert other["nnt"]["payloads"] != one["nnt"]["payloads"]
    assert other["plan"]["digest"] != one["plan"]["digest"]


def test_what_does_not_apply_says_why_and_stops_nothing():
    more = """
[[schemes]]
name = "asks"
scheme = "ingrain"
settings = { carriers = 20 }
[[schemes]]
name = "widths"
scheme = "structural"
[[schemes]]
name = "questions"
scheme = "trigger"
[[schemes]]
name = "too long"
scheme = "projection"
bits = 60000
[[schemes]]
name = "strong"
scheme = "projection"
means = { strength = 1.0 }
"""
    document = evaluate(parse_plan(toy.TOML + more + toy.NOISE), toy.laboratory)
    validate(document)
    problems = {each["name"]: each["problem"] for each in document["schemes"]}
    assert problems["full"] is None
    assert problems["code"] is None
    assert "is trained into a model and cannot be written into a finished file" in problems["asks"]
    assert "bits, and 24 are needed to prove anything" in problems["widths"]
    assert "the number of classes to draw them from (classes=N)" in problems["questions"]
    assert "60000 bits" in problems["too long"]
    assert "has a 'margin' and no 'strength'" in problems["strong"]
    assert document["status"] == "complete"
    for each in document["schemes"][2:]:
        assert (each["robustness"], each["cost"], each["imperceptibility"]["cells"]) == ([], None, [])


def test_what_an_attack_does_not_take_is_a_problem_of_its_points():
    grid = '\n[[modifications]]\nname = "quantizing"\nvalues = [8, 2.5]\n'
    document = evaluate(parse_plan(toy.TOML + grid), toy.laboratory)
    good, bad = scheme(document, "full")["robustness"][1]["points"]
    assert (good["n_failed"], good["problems"]) == (0, [])
    assert bad["n_failed"] == bad["n_networks"] == 6
    assert bad["false_negative_rate"] is None
    assert bad["score"] is bad["symbol_error_rate"] is None
    assert "bits must be a whole number" in bad["problems"][0]
    validate(document)


def test_a_network_that_the_laboratory_cannot_take_up_is_looked_at_all_the_same(tmp_path):
    (tmp_path / "adopts nothing").touch()
    tuning = '\n[[modifications]]\nname = "fine-tuning"\nvalues = [1]\n'
    plan = parse_plan(toy.TOML.replace('name = "toy"', f'name = "toy"\npath = "{tmp_path}"') + toy.NOISE + tuning)
    document = evaluate(plan, toy.laboratory)
    assert point(document, "full", "noise")["n_failed"] == 0
    tuned = point(document, "full", "fine-tuning")
    assert (tuned["n_failed"], tuned["problems"]) == (4, ["nothing is adopted here"])
    assert point(document, "code", "fine-tuning")["n_failed"] == 0


def test_a_setting_of_the_laboratorys_own_is_refused_by_the_laboratory():
    grid = '\n[[modifications]]\nname = "distillation"\nvalues = [1]\nsettings = { temperature = 3.0 }\n'
    document = evaluate(parse_plan(toy.SMALL + grid), toy.laboratory)
    assert point(document, "full", "distillation")["problems"] == ["it is always warm here"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (('"projection"', '"projektion"'), PluginError, "no plugin 'projektion' in onnxmark.schemes"),
        (('"projection"', '"projection"\nsettings = { carier = "full" }'), SettingError, "did you mean 'carrier'"),
        (('name = "one"', 'name = "none"'), LaboratoryError, "no architecture 'none'"),
    ],
    ids=["scheme", "option", "architecture"],
)
def test_mistakes_of_the_plan_are_found_before_any_training(change, error, message, tmp_path):
    journal = tmp_path / "journal"
    with pytest.raises(error, match=message):
        evaluate(parse_plan(toy.TOML.replace(*change)), toy.laboratory, journal=journal)
    assert not journal.exists()


def test_a_laboratory_that_cannot_be_made_in_a_worker_ends_the_run(tmp_path):
    plan = parse_plan(toy.SMALL.replace('name = "toy"', f'name = "toy"\npath = "{tmp_path}"'))

    def close_after_the_first(progress):
        (tmp_path / "no laboratory").touch()

    with pytest.raises(LaboratoryError, match="no cell can be carried out: the laboratory is closed"):
        evaluate(plan, toy.laboratory, progress=close_after_the_first)


def test_progress_is_told_with_the_time_that_is_left():
    seen = []
    evaluate(parse_plan(toy.TOML + toy.NOISE), toy.laboratory, progress=seen.append)
    assert [each.n_done for each in seen] == list(range(seen[-1].n_total + 1))
    assert (seen[0].latest, seen[0].seconds_left) == ("", None)
    assert seen[-1].seconds_left == pytest.approx(0, abs=1e-9)
    words = Counter(each.latest.split()[0] for each in seen[1:])
    assert words == {"training": 2, "unmarked": 2, "marking": 8, "reading": 10, "Gaussian": 10}


def test_the_work_folder_goes_with_the_last_cell_and_stays_where_it_is_asked_to(tmp_path):
    plan = parse_plan(toy.SMALL)
    evaluate(plan, toy.laboratory, journal=tmp_path / "a.journal")
    assert [each.name for each in tmp_path.iterdir()] == ["a.journal"]
    document = evaluate(plan, toy.laboratory, journal=tmp_path / "b.journal", work=tmp_path / "work", keep=True)
    kept = tmp_path / "work" / plan.digest[:16]
    assert sorted(each.name for each in kept.iterdir()) == ["keys", "marked", "networks"]
    assert (kept / "keys" / "0" / "0-0.npy").stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_mode & 0o777 == 0o700
    key = load_key(kept / "keys" / "0" / "0-0.npy")
    told = json.dumps(document) + (tmp_path / "b.journal").read_text()
    assert "".join(map(str, key.payload)) in told
    for secret in (key.seed.reveal(), key.salt, key.master.reveal()):
        assert not any(form in told for form in (secret.hex(), repr(secret), repr(list(secret))))


def test_a_work_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"the work folder .* cannot be made: Not a directory"):
        evaluate(PLAN, toy.laboratory, work=tmp_path / "file")
