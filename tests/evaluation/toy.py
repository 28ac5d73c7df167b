"""A laboratory without a framework: networks are drawn, not trained, and a whole evaluation takes seconds.

Its files are as real as any: they run, they are audited, marks are embedded into them. Switches, empty files in the
folder that a plan gives as the path of its task, make it misbehave.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxmark.audit import built_in
from onnxmark.errors import LaboratoryError
from onnxmark.evaluation import MODEL, Embedding, Plan, Rehearsal, Score, Spent, TaskFacts, Training
from onnxmark.evaluation.plan import as_table
from onnxmark.marking import embed_file

SHAPES = {"stem.weight": (16, 8, 3, 3), "body.weight": (32, 16, 3, 3), "head.weight": (10, 32)}
N_PARAMETERS = 16 * 8 * 9 + 32 * 16 * 9 + 320

HEAD = """
seed = 5
networks = 2
payloads = 2
bits = 24
[task]
name = "toy"
n_training = 600
[[architectures]]
name = "one"
[[architectures]]
name = "other"
[training]
epochs = 4
batch_size = 20
rate = 0.1
"""
SCHEMES = """
[[schemes]]
name = "full"
scheme = "projection"
[[schemes]]
name = "code"
scheme = "constant-weight"
embedding = "fine-tuning"
"""
TOML = HEAD + SCHEMES
"""A plan for it, without modifications."""

ONE = HEAD.replace("networks = 2", "networks = 1").replace("payloads = 2", "payloads = 1")
"""The head of a plan with one network and one payload."""

NOISE = """
[[modifications]]
name = "noise"
values = [0.1]
"""
SMALL = ONE + SCHEMES.partition('[[schemes]]\nname = "code"')[0] + NOISE
"""One network, one payload, one scheme, one modification."""

MODIFICATIONS = """
[[modifications]]
name = "noise"
values = [0.1, 0.2]
[[modifications]]
name = "pruning"
values = [50]
[[modifications]]
name = "fine-tuning"
values = [1]
[[modifications]]
name = "distillation"
values = [2]
[[modifications]]
name = "overwriting"
values = [1]
"""


def laboratory(plan: Plan) -> ToyLaboratory:
    """The factory that a plan's entry point would name."""
    return ToyLaboratory(plan)


class ToyLaboratory:
    name = "toy 1"
    packages = ("numpy",)

    def __init__(self, plan):
        self.plan = plan
        if self.switched("no laboratory"):
            raise LaboratoryError("the laboratory is closed")

    @property
    def task(self):
        return TaskFacts("toy", "accuracy", self.plan.task.n_training or 100, 50, 10)

    def n_parameters(self, architecture):
        if architecture.name not in ("one", "other"):
            raise LaboratoryError(f"there is no architecture {architecture.name!r}")
        return N_PARAMETERS

    def train(self, network, folder):
        write(folder, drawn(network.seed))
        return self.spent(self.plan.training)

    def embed(self, order, network, source, folder):
        if order.embedding is Embedding.TRAINING:
            values = drawn(network.seed)
        else:
            values = moved(read(source / MODEL), order.seed, 0.05)
        write(folder, values)
        if order.key is not None:
            if self.switched("dies embedding", once=True):
                os._exit(9)
            (folder / MODEL).rename(folder / "plain.onnx")
            embed_file(folder / "plain.onnx", order.key, folder / MODEL, schemes=built_in)
        return self.spent(order.training)

    def adopt(self, source, folder):
        if self.switched("adopts nothing"):
            raise LaboratoryError("nothing is adopted here")

    def fine_tune(self, training, means, seed, source, folder):
        if self.switched("dies", once=True):
            os._exit(9)
        write(folder, moved(read(source / MODEL), seed, 0.02 * training.epochs))

    def distil(self, training, means, seed, source, folder):
        if "temperature" in as_table(means):
            raise LaboratoryError("it is always warm here")
        write(folder, drawn(seed))

    def score(self, model):
        values = read(model)
        size = float(np.mean(np.abs(values["body.weight"])))
        return Score(round(0.9 - abs(size - 0.08), 6), 0.01)

    def write_pool(self, path):
        np.save(path, np.random.default_rng(0).standard_normal((60, 8, 6, 6)).astype(np.float32))

    def effort(self, scheme):
        return float(as_table(scheme.means).get("effort", 1.0))

    def rehearse(self, network, folder):
        write(folder, drawn(network.seed))
        return Rehearsal(0.002, 0.1)

    def spent(self, training: Training) -> Spent:
        steps = self.task.n_training // training.batch_size
        return Spent(training.epochs, training.epochs * steps, 0.5 * training.epochs, 1000)

    def switched(self, name, *, once=False):
        path = None if self.plan.task.path is None else Path(self.plan.task.path) / name
        if path is None or not path.exists():
            return False
        if once:
            path.unlink()
        return True


def drawn(seed):
    """Weights as if trained."""
    rng = np.random.default_rng(seed)
    return {name: 0.1 * rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def moved(values, seed, size):
    """Weights as if trained on."""
    rng = np.random.default_rng(seed)
    return {
        name: each + size * 0.1 * rng.standard_normal(each.shape).astype(np.float32) for name, each in values.items()
    }


def write(folder, values):
    """A network that runs: convolutions, an average over positions, a linear layer."""
    nodes = [
        helper.make_node("Conv", ["images", "stem.weight"], ["a"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "body.weight"], ["c"], name="body", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "head.weight"], ["logits"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 8, 6, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(np.ascontiguousarray(each, dtype=np.float32), name) for name, each in values.items()],
    )
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]), folder / MODEL)


def read(path):
    """Weights by name."""
    found = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    return {name: found[name] for name in SHAPES}


def digest(path):
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
