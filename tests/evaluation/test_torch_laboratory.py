"""The laboratory of PyTorch: networks in folders, closed-form marks taken up again, and a whole evaluation."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from onnxmark_torch.evaluation import folders, laboratory
from onnxmark_torch.evaluation.supplies import portion, untrained
from onnxmark_torch.structural import examples_of, narrow_
from onnxmark_torch.training import evaluate as evaluated
from onnxmark_torch.training import logits_of

from onnxmark.errors import DataError, LaboratoryError
from onnxmark.evaluation import MODEL, Network, Training, evaluate, parse_plan, reproducible
from onnxmark.keymaking import weight_layers
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from onnxmark.report.schema import validate
from onnxmark.schemes.projection.scheme import ProjectionOptions, ProjectionScheme

PLAN = """
seed = 11
networks = 2
payloads = 2
bits = 24
[task]
name = "digits"
n_training = 320
n_test = 100
n_pool = 60
[[architectures]]
name = "conv-net"
width = 16
[[architectures]]
name = "wrn"
stem_stride = 2
[training]
epochs = 1
batch_size = 16
rate = 0.05
[[modifications]]
name = "noise"
values = [0.1]
[[modifications]]
name = "fine-tuning"
values = [1]
[[schemes]]
name = "Uchida"
scheme = "projection"
embedding = "training"
settings = { generator = "gaussian", carrier = "mean-ihw" }
means = { strength = 2.0 }
"""
END_TO_END = PLAN.replace('name = "wrn"\nstem_stride = 2', 'name = "vgg"\nwidth = 8\nstages = 2\ndepth = 1')
ARCHITECTURES = ("conv-net", "wrn")
only_conv_net = pytest.mark.parametrize("network", [0], indirect=True, ids=["conv-net"])


@pytest.fixture(scope="module")
def here():
    return laboratory(parse_plan(PLAN))


@pytest.fixture(scope="module", params=range(2), ids=ARCHITECTURES)
def network(request, here, tmp_path_factory):
    """A trained network of each architecture, and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    made = Network(parse_plan(PLAN).architecture(request.param), 5)
    return made, folder, here.train(made, folder)


def test_the_task_and_its_networks_are_described(here):
    task = here.task
    assert (task.name, task.metric, task.n_training, task.n_test, task.n_classes) == (
        "digits",
        "accuracy",
        320,
        100,
        10,
    )
    assert here.n_parameters(parse_plan(PLAN).architectures[0]) == 9 * (8 + 8 * 16 + 256) + 2 * 40 + 170
    assert here.name.startswith(f"PyTorch {torch.__version__}")
    assert "digits" in repr(here)


def test_a_training_says_what_it_took(network):
    spent = network[2]
    assert (spent.epochs, spent.batches) == (1, 20)
    assert 0 < spent.seconds < 60
    assert spent.memory_bytes > 100 << 20


def test_the_file_scores_as_the_network_in_memory(network, here):
    _, folder, _ = network
    task = portion(parse_plan(PLAN).task)
    model, _ = folders.restore(folder, task)
    score = here.score(folder / MODEL)
    assert score.value == evaluated(model, task)
    assert 0 < score.seconds < 10
    session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])
    inputs = task.inputs(torch.tensor(task.test.images)).numpy()
    (logits,) = session.run(None, {session.get_inputs()[0].name: inputs})
    assert score.value == float(np.mean(logits.argmax(1) == task.test.labels))
    assert np.abs(logits - logits_of(model, task, task.test).numpy()).max() < 1e-4


@only_conv_net
def test_the_same_seed_gives_the_same_network(network, here, tmp_path):
    made, folder, _ = network
    here.train(made, tmp_path)
    assert weights(tmp_path / MODEL).keys() == weights(folder / MODEL).keys()
    for name, values in weights(tmp_path / MODEL).items():
        assert np.array_equal(values, weights(folder / MODEL)[name])


def weights(path):
    with open_model(path) as model:
        return {name: tensor.values for name, tensor in model.weights().items()}


def test_a_mark_in_closed_form_is_taken_up_into_the_network(network, here, tmp_path):
    """Exported again, every layer is that of the marked file, batch normalisation folded in or not."""
    _, folder, _ = network
    task = portion(parse_plan(PLAN).task)
    sites = [name for name in weights(folder / MODEL) if "conv" in name][1:]
    key = ProjectionScheme().make_key(
        weight_layers(folder / MODEL, (sites[0],), 24), np.ones(24, dtype=np.uint8), ProjectionOptions()
    )
    embed_file(folder / MODEL, key, tmp_path / MODEL)
    here.adopt(folder, tmp_path)
    model, architecture = folders.restore(tmp_path, task)
    again = tmp_path / "again"
    again.mkdir()
    folders.save(model, architecture, task, again)
    marked, exported = weights(tmp_path / MODEL), weights(again / MODEL)
    assert not np.array_equal(marked[sites[0]], weights(folder / MODEL)[sites[0]])
    for name, values in marked.items():
        assert np.abs(exported[name] - values).max() <= 2e-6 * np.abs(values).max(), name


@only_conv_net
@pytest.mark.parametrize("change", [("width = 16", "width = 8"), ('"conv-net"\nwidth = 16', '"vgg"\nwidth = 8')])
def test_a_file_of_another_shape_is_not_taken_up(network, here, tmp_path, tmp_path_factory, change):
    _, folder, _ = network
    task, other = portion(parse_plan(PLAN).task), parse_plan(PLAN.replace(*change)).architecture(0)
    folders.save(untrained(other, task, seed=1), other, task, tmp_path)
    with pytest.raises(LaboratoryError, match=r"another shape in the marked file|other layers than the network"):
        here.adopt(folder, tmp_path)


def test_a_narrowed_network_is_restored_with_its_widths(here, tmp_path):
    """A structural mark is in them: what is trained on must have it still."""
    task, architecture = portion(parse_plan(PLAN).task), parse_plan(END_TO_END).architecture(1)
    model = narrow_(
        untrained(architecture, task, 3), examples_of(task, untrained(architecture, task, 3)), {"convs.0.weight": 5}
    )
    folders.keep(model, architecture, tmp_path)
    restored, found = folders.restore(tmp_path, task)
    assert found == architecture
    assert restored.convs[0].weight.shape[0] == 5
    assert torch.equal(logits_of(restored, task, task.test), logits_of(model, task, task.test))


COLOURS = (("elsewhere", "tests.evaluation.test_torch_supplies:colours"),)


def test_a_network_comes_back_from_elsewhere(network, here, tmp_path):
    """It answers for its own task as before, learnt something else on the way, and twice the same."""
    _, folder, _ = network
    for name, means in (("home", ()), ("away", COLOURS), ("again", COLOURS)):
        (tmp_path / name).mkdir()
        here.fine_tune(Training(1, 16, 0.02), means, 3, folder, tmp_path / name)
    home, away, again = (weights(tmp_path / name / MODEL) for name in ("home", "away", "again"))
    assert {name: values.shape for name, values in away.items()} == {k: v.shape for k, v in home.items()}
    assert all(np.array_equal(away[name], again[name]) for name in away)
    assert any(not np.array_equal(away[name], home[name]) for name in away)
    assert here.score(tmp_path / "away" / MODEL).value > 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{ elsewhere = "mnist" }', "there is no task 'mnist'"),
        ('{ elsewhere = "digits" }', "leads nowhere"),
        ('{ elsewhere = "fashion-mnist", path = "/nowhere" }', "'/nowhere': has neither"),
        (
            '{ elsewhere = "fashion-mnist", epochs = 3 }',
            "fine-tuning has no 'epochs'; its settings are elsewhere, path, rate",
        ),
    ],
)
def test_where_fine_tuning_cannot_lead_is_known_before_anything_is_trained(settings, message):
    row = f'[[modifications]]\nname = "transfer"\nvalues = [1]\nsettings = {settings}\n'
    with pytest.raises((DataError, LaboratoryError), match=message):
        laboratory(parse_plan(PLAN.replace("[[schemes]]", f"{row}[[schemes]]")))


def test_a_folder_without_weights_is_not_trained_on(here, tmp_path):
    with pytest.raises(LaboratoryError, match=r"cannot be trained on: .*No such file"):
        here.fine_tune(Training(1, 16, 0.01), (), 0, tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmth": 3.0}, "distillation has no 'warmth'; its settings are rate, share, student, temperature"),
        ({"temperature": 0.0}, "distillation: temperature must be above 0"),
        ({"student": "vgg"}, "there is no architecture 'vgg' in the plan; there are conv-net, wrn"),
    ],
)
def test_settings_of_distillation_are_checked(here, tmp_path, settings, message):
    with pytest.raises(LaboratoryError, match=message):
        here.distil(Training(1, 16, 0.01), tuple(settings.items()), 0, tmp_path, tmp_path)


@only_conv_net
def test_a_student_may_be_of_another_architecture(network, here, tmp_path):
    made, folder, _ = network
    other = next(name for name in ARCHITECTURES if name != made.architecture.name)
    here.distil(Training(1, 16, 0.01), (("student", other),), 0, folder, tmp_path)
    _, architecture = folders.restore(tmp_path, portion(parse_plan(PLAN).task))
    assert architecture.name == other


def test_the_pool_is_written_as_networks_take_it(here, tmp_path):
    here.write_pool(tmp_path / "pool.npy")
    task = portion(parse_plan(PLAN).task)
    assert np.array_equal(np.load(tmp_path / "pool.npy"), task.inputs(torch.tensor(task.pool.images)).numpy())
    without = laboratory(parse_plan(PLAN.replace("n_pool = 60\n", "")))
    with pytest.raises(LaboratoryError, match=r"no images apart to be asked about; give n_pool in \[task\]"):
        without.write_pool(tmp_path / "none.npy")


def test_a_rehearsal_times_a_batch_and_an_export(here, tmp_path):
    found = here.rehearse(Network(parse_plan(PLAN).architecture(0), 1), tmp_path)
    assert 0 < found.batch_seconds < 1
    assert 0.01 < found.export_seconds < 60
    assert (tmp_path / MODEL).is_file()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole evaluation and its journal."""
    journal = tmp_path_factory.mktemp("whole") / "journal"
    return evaluate(parse_plan(END_TO_END), laboratory, journal=journal), journal


def test_digits_from_end_to_end(whole):
    document, _ = whole
    validate(document)
    assert document["status"] == "complete"
    (scheme,) = document["schemes"]
    assert (scheme["problem"], scheme["doubts"]) == (None, [])
    for row in scheme["robustness"]:
        for point in row["points"]:
            assert (point["n_networks"], point["n_failed"]) == (6, 0)
            assert (point["false_positives"], point["false_negatives"]) == (0, 0)
            assert point["symbol_error_rate"]["mean"] == 0
            assert 0.25 < point["unmarked_symbol_error_rate"]["mean"] < 0.75
    injection = scheme["cost"]["injection"]
    assert (injection["epochs"]["mean"], injection["batches_per_epoch"]) == (1, 20)
    assert [row["n_parameters"] > 0 for row in document["plan"]["architectures"]] == [True, True]


def test_taken_up_again_it_ends_in_the_same_document(whole, tmp_path):
    """What is lacking needs networks that are gone: made again, in another process, they are the same."""
    document, journal = whole
    lines = journal.read_bytes().splitlines(keepends=True)
    (tmp_path / "journal").write_bytes(b"".join(lines[:-1]))
    again = evaluate(parse_plan(END_TO_END), laboratory, journal=tmp_path / "journal")
    assert json.dumps(reproducible(again)) == json.dumps(reproducible(document))
