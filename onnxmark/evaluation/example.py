"""A plan to start from, as ``onnxmark evaluate --example`` prints it: small enough to try, with every table."""

from __future__ import annotations

from typing import Final

EXAMPLE: Final = """\
# Plan of an evaluation after MPAI-NNW (IEEE 3304). Run it with: onnxmark evaluate PLAN.toml
# How long it will take:                                       onnxmark evaluate PLAN.toml --dry-run

title = "Four schemes on Fashion-MNIST"
seed = 1                # everything that is drawn is drawn from it
networks = 2            # M networks; their architectures take turns
payloads = 2            # D payloads, each embedded into every network
bits = 64               # of a payload, unless a scheme says otherwise
laboratory = "torch"    # where networks are trained

[task]
name = "fashion-mnist"  # or "digits", or "cifar10" with the path of its files
# path = "/usr/share/datasets/fashion-mnist"
n_training = 10000      # images; 0 is all. The standard asks for ten times the number of parameters
n_test = 2000
n_pool = 5000           # training images kept apart for schemes that ask questions

[[architectures]]
name = "conv-net"
width = 64

[[architectures]]
name = "lenet"          # images of 16x16 pixels or more; also "wrn", "vgg" (width, stages), or module:function

[training]
epochs = 4
batch_size = 64
rate = 0.05

[fine_tuning]           # of marks into finished networks, the owner's or a thief's
epochs = 1
rate = 0.01

[policy]
alpha = 1e-6
registered = false

# Without any [[modifications]] all seven of the standard are carried out, on default grids.
# What is not said of one is as in the standard's table; ids are data, too.

[[modifications]]
name = "noise"
values = [0.1, 0.2, 0.3]            # S, standard deviations of the layer

[[modifications]]
name = "pruning"
values = [1, 10, 30, 50, 70, 90]    # P, %

[[modifications]]
name = "random-pruning"
values = [1, 5, 10]                 # R, %

[[modifications]]
name = "quantizing"
values = [16, 8, 4, 2]              # B, bits

[[modifications]]
name = "fine-tuning"
values = [1, 2]                     # E, epochs
settings = { rate = 0.01 }

# [[modifications]]
# name = "transfer"                 # the same by way of another task
# values = [1]                      # E, epochs there and epochs back
# settings = { elsewhere = "digits" }

[[modifications]]
name = "distillation"
values = [4]                        # E, epochs
settings = { temperature = 3.0 }

[[modifications]]
name = "overwriting"
values = [2, 4]                     # W, marks

# Any attack on files can be one, too: name = "int8 per channel", attack = "quantize", values = [8], ...

[[schemes]]
name = "Uchida"
scheme = "projection"
embedding = "training"              # or "closed-form", "fine-tuning", "distilling"
settings = { generator = "gaussian", carrier = "mean-ihw" }
means = { strength = 0.01 }

[[schemes]]
name = "Full carrier"
scheme = "projection"
embedding = "closed-form"
settings = { generator = "rademacher" }

[[schemes]]
name = "Constant weight code"
scheme = "constant-weight"
embedding = "closed-form"

[[schemes]]
name = "Ingrain"
scheme = "ingrain"
embedding = "training"
settings = { carriers = 500 }
"""
"""TOML."""
