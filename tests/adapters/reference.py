"""One training step done slowly and plainly in float64, with the mark's gradient from onnxmark's NumPy side."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from onnxmark.schemes.projection.projection import own_projection
from tests.adapters.subjects import tiny_net

RATE = 0.1
LAYER = "body"


def batch(seed=0, size=12):
    """Random images (size, 1, 8, 8) and labels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, 1, 8, 8, generator=generator), torch.randint(10, (size,), generator=generator)


def subject(width=16):
    """The network that steps; in evaluation mode, because micro-batches have statistics of their own."""
    return tiny_net(width).eval()


def sgd(model):
    """Plain gradient descent, whose update is the gradient."""
    return torch.optim.SGD(model.parameters(), lr=RATE)


def task_loss(model, images, labels):
    """The loss the network is trained with."""
    return nn.functional.cross_entropy(model(images), labels)


def mark_gradient(key, values, strength):
    """Strength times the derivative of the sum of cross-entropies, float64, for canonical values (NumPy)."""
    projection = own_projection(key, values.shape)
    scores = projection.scores(values.astype(np.float64))
    return strength * projection.adjoint(1 / (1 + np.exp(-scores)) - key.message)


def add_marks(model, marks):
    """Add gradients to a float64 network; ``marks`` are (layer, key, strength)."""
    for layer, key, strength in marks:
        weight = model.get_submodule(layer).weight
        weight.grad += torch.from_numpy(np.ascontiguousarray(mark_gradient(key, weight.detach().numpy(), strength)))


def stepped(marks, make_optimizer=sgd, *, clip=None, width=16, gradients=None):
    """The network's parameters after one step on the full batch, in float64.

    ``gradients`` replaces the task's own, for set-ups whose arithmetic rounds them.
    """
    model = copy.deepcopy(subject(width)).double()
    images, labels = batch()
    task_loss(model, images.double(), labels).backward()
    if gradients is not None:
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient.double()
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    add_marks(model, marks)
    make_optimizer(model).step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def error(actual, expected, width=16):
    """Norm of an update's deviation from the expected update, over the norm of the latter, all parameters together."""
    before = {name: parameter.detach() for name, parameter in subject(width).named_parameters()}
    deviations = [(actual[name].double() - wanted).norm() for name, wanted in expected.items()]
    changes = [(wanted - before[name].double()).norm() for name, wanted in expected.items()]
    return float(torch.stack(deviations).norm() / torch.stack(changes).norm())


def parameters(model):
    """A model's parameters by their plain names."""
    return {name.removeprefix("module.").removeprefix("_orig_mod."): p.detach() for name, p in model.named_parameters()}
