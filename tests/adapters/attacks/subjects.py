"""A small task, a small network and one recipe of every training-time attack, shared by the tests of this folder."""

from __future__ import annotations

import functools

import torch
from onnxmark_torch import attacks
from onnxmark_torch.attacks import TrainingMeans
from onnxmark_torch.networks import ConvNet
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.tasks import digits
from onnxmark_torch.training import train
from torch import nn

QUICK = {"epochs": 1, "batch_size": 32}
RECIPES = (
    attacks.FineTuneLast(**QUICK),
    attacks.FineTuneAll(**QUICK),
    attacks.RetrainLast(**QUICK),
    attacks.RetrainAll(**QUICK),
    attacks.CrossDomain(**QUICK),
    attacks.Distillation(3.0, **QUICK),
    attacks.HardDistillation(**QUICK),
    attacks.TrainedOverwriting(1, n_bits=16, **QUICK),
    attacks.AdmmPruningTraining(0.5, rounds=2, retraining=1, **QUICK),
    attacks.AdmmClusteringTraining(0.5, rounds=2, retraining=1, bits=3, **QUICK),
    attacks.AdmmQuantisationTraining(0.5, rounds=2, retraining=1, bits=3, **QUICK),
    attacks.FinePruning(0.5, **QUICK),
    attacks.QuantisationAwareTraining(4, **QUICK),
)


@functools.cache
def task():
    """512 digits to learn, 100 to be judged by."""
    return digits().smaller(512, 100)


@functools.cache
def elsewhere():
    """Other digits, as a task of its own."""
    return digits().smaller(64, 20)


def student():
    """Another architecture than the stolen network's."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def means(seed=0, **others):
    """What the thief has in these tests."""
    return TrainingMeans(task(), elsewhere=elsewhere(), student=student, seed=seed, **others)


def untrained_net(seed=0):
    """A network of 16 filters a layer, the same for the same seed."""
    torch.manual_seed(seed)
    return ConvNet(width=16)


@functools.cache
def _trained_state():
    net = untrained_net()
    train(net, task(), TrainingPlan(epochs=12, batch_size=32), show=False)
    return net.state_dict()


def trained_net():
    """A fresh copy of one trained network."""
    net = untrained_net()
    net.load_state_dict(_trained_state())
    return net.eval()


def parameters_of(model):
    """Copies of a model's parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
