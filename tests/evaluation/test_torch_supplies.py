"""Tasks and networks by name: ours, anybody's, and none at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from onnxmark_torch.data import DataSet, Examples
from onnxmark_torch.evaluation.supplies import elsewhere, portion, untrained
from onnxmark_torch.networks import ConvNet, LeNet, Vgg, WideResNet
from onnxmark_torch.tasks import ImageTask, digits

from onnxmark.errors import DataError, LaboratoryError
from onnxmark.evaluation import Architecture, TaskPlan

DIGITS = TaskPlan("digits", n_training=300, n_test=50, n_pool=100)


def own_task():
    """A task of anybody's."""
    return replace(digits(), name="own")


def own_network(task, hidden=3):
    """A network of anybody's."""
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, hidden), torch.nn.Linear(hidden, task.n_classes))


def colours():
    """Images of one colour each, of which there are three, 12 x 10 pixels."""
    labels = np.arange(90, dtype=np.int64) % 3
    images = np.zeros((90, 3, 12, 10), np.uint8)
    for channel in range(3):
        images[labels == channel, channel] = 60 * (channel + 1)
    parts = (Examples(each, at, ("red", "green", "blue")) for each, at in ((images, labels), (images[:9], labels[:9])))
    return ImageTask.of("colours", DataSet(*parts))


@pytest.fixture(scope="module")
def task():
    return portion(DIGITS)


def test_images_are_divided_without_overlap(task):
    whole = digits()
    assert np.array_equal(task.training.images, whole.training.images[:300])
    assert np.array_equal(task.pool.images, whole.training.images[300:400])
    assert np.array_equal(task.pool.labels, whole.training.labels[300:400])
    assert np.array_equal(task.test.images, whole.test.images[:50])
    assert (task.name, task.metric, task.n_classes) == ("digits", "accuracy", 10)


def test_a_part_is_seen_as_the_whole_is(task):
    images = torch.tensor(task.test.images)
    assert torch.equal(task.inputs(images), digits().inputs(images))


def test_all_images_are_taken_where_no_number_is_given():
    task = portion(TaskPlan("digits", n_pool=37))
    assert (len(task.training), len(task.pool), len(task.test)) == (1400, 37, 360)
    assert portion(TaskPlan("digits")).pool is None


@pytest.mark.parametrize("change", [{"n_training": 1400}, {"n_test": 361}, {"n_training": None, "n_pool": 1437}])
def test_more_images_than_there_are_is_told(change):
    with pytest.raises(
        LaboratoryError, match=r"has 1,437 training and 360 test images, and the plan asks for .*take fewer"
    ):
        portion(replace(DIGITS, **change))


def test_a_task_of_anybodys_is_taken():
    assert portion(replace(DIGITS, name=f"{__name__}:own_task")).name == "own"


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        (
            TaskPlan("mnist"),
            LaboratoryError,
            "no task 'mnist'; there are fashion-mnist, digits, cifar10, and module:fun",
        ),
        (TaskPlan("nowhere:task"), LaboratoryError, "'nowhere:task' cannot be imported: No module named 'nowhere'"),
        (TaskPlan(f"{__name__}:nothing"), LaboratoryError, "cannot be imported: .* has no attribute 'nothing'"),
        (TaskPlan("digits", path="here"), LaboratoryError, "task 'digits': .*'path'; it takes no settings"),
        (TaskPlan("cifar10"), LaboratoryError, "task 'cifar10': missing a required argument: 'path'"),
        (TaskPlan("fashion-mnist", path="/nowhere"), DataError, "'/nowhere': has neither"),
    ],
)
def test_tasks_that_cannot_be_had_say_why(plan, error, message):
    with pytest.raises(error, match=message):
        portion(plan)


def test_another_task_has_images_as_at_home(task):
    found = elsewhere(TaskPlan(f"{__name__}:colours"), task)
    assert (found.name, found.n_classes) == ("colours", 3)
    assert found.training.images.shape == (90, 1, 8, 8)
    assert found.test.images.shape == (9, 1, 8, 8)
    # A third of the one channel that is lit, in every pixel.
    expected = np.round((found.training.labels + 1) * 60 / 3)
    assert np.array_equal(found.training.images, np.broadcast_to(expected[:, None, None, None], (90, 1, 8, 8)))
    assert found.training.class_names == ("red", "green", "blue")


def test_another_task_has_no_more_images_than_there_are_at_home():
    found = elsewhere(TaskPlan("digits"), portion(TaskPlan(f"{__name__}:colours", n_training=40, n_test=5)))
    assert (found.training.images.shape, len(found.test)) == ((40, 3, 12, 10), 5)
    grey, first = digits(), found.training.images[0]
    assert np.array_equal(first[0], first[1])
    assert np.array_equal(first[0], first[2])
    assert abs(first.mean() - grey.training.images[0].mean()) < 10
    assert np.array_equal(found.training.labels, grey.training.labels[:40])


def test_the_same_task_is_no_other(task):
    with pytest.raises(LaboratoryError, match="transfer learning to 'digits' leads nowhere"):
        elsewhere(TaskPlan("digits"), task)


@pytest.mark.parametrize(
    ("architecture", "kind", "n_parameters"),
    [
        (Architecture("conv-net", (("width", 8),)), ConvNet, 9 * (4 + 4 * 8 + 64) + 2 * 20 + 90),
        (Architecture("wrn", (("n_blocks", 1),)), WideResNet, None),
        (Architecture("vgg", (("depth", 1), ("stages", 2), ("width", 8))), Vgg, 9 * (8 + 8 * 16) + 2 * 24 + 170),
        (Architecture(f"{__name__}:own_network", (("hidden", 5),)), torch.nn.Sequential, 65 * 5 + 60),
    ],
    ids=lambda each: getattr(each, "words", None),
)
def test_networks_are_built_for_the_task(task, architecture, kind, n_parameters):
    model = untrained(architecture, task, seed=1)
    assert isinstance(model, kind)
    assert model(task.inputs(torch.tensor(task.test.images[:2]))).shape == (2, 10)
    if n_parameters is not None:
        assert sum(each.numel() for each in model.parameters()) == n_parameters


def test_lenet_takes_the_size_of_larger_images():
    large = replace(digits(), data=replace(digits().data, training=grown(digits().training)))
    model = untrained(Architecture("lenet"), large, seed=1)
    assert isinstance(model, LeNet)
    assert model(torch.zeros(2, 1, 16, 16)).shape == (2, 10)


def grown(examples):
    return replace(examples, images=np.repeat(np.repeat(examples.images, 2, axis=2), 2, axis=3))


def test_a_seed_decides_the_weights_and_nothing_else(task):
    architecture = Architecture("conv-net", (("width", 8),))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, again, other = (untrained(architecture, task, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (Architecture("resnet"), "no architecture 'resnet'; there are conv-net, lenet, wrn, vgg, and module:function"),
        (Architecture("conv-net", (("breadth", 8),)), "architecture 'conv-net': .*'breadth'; it takes task, width"),
        (
            Architecture("conv-net", (("width", 7),)),
            "architecture 'conv-net': width must be even and at least 2, not 7",
        ),
        (Architecture("lenet"), "architecture 'lenet': images must have at least 16x16 pixels, not 8x8"),
    ],
)
def test_networks_that_cannot_be_had_say_why(task, architecture, message):
    with pytest.raises(LaboratoryError, match=message):
        untrained(architecture, task, seed=0)
