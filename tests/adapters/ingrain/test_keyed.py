"""From a key to a marked file: the carriers found again in the pool, and the whole way to an audit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnxmark_torch import export
from onnxmark_torch.data import Examples
from onnxmark_torch.ingrain import Lesson, keyed_carriers, train_host, train_ingrainer, varied, write_pool
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import train
from torch import nn

from onnxmark.audit import Oracle, audit_file
from onnxmark.errors import DataError, KeyFileError
from onnxmark.keymaking import ingrain_key
from onnxmark.keys import Key, load_key, save_key
from onnxmark.schemes.answers.ingrain import IngrainOptions, IngrainScheme
from onnxmark.schemes.scheme import Answers
from onnxmark.verdict import Verdict
from tests.adapters.ingrain.subjects import NAMES, examples, net, task
from tests.adapters.subjects import make_key

POOL = examples(300, 20)
N_CARRIERS = 64


def scores(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(POOL), len(NAMES)))


def pool_inputs() -> np.ndarray:
    return task().inputs(torch.tensor(POOL.images)).numpy()


def key_of_pool() -> Key:
    return IngrainScheme().make_key(pool_inputs(), [scores()], IngrainOptions(carriers=N_CARRIERS))


class TestKeyedCarriers:
    def test_they_are_the_images_behind_the_keys_inputs(self):
        key = key_of_pool()
        found = keyed_carriers(key, POOL, task())
        assert len(found) == N_CARRIERS
        again = task().inputs(torch.tensor(found.images)).numpy()
        assert np.array_equal(again, key.arrays["inputs"])

    def test_their_labels_are_what_the_key_wants_to_hear(self):
        """A model that answers them is all that the key asks for; one that answers the pair's other class is not."""
        key = key_of_pool()
        labels = keyed_carriers(key, POOL, task()).labels
        right = IngrainScheme().extract(key, Answers(labels))
        assert (right.n_errors, right.log10_p) == (0, pytest.approx(-N_CARRIERS * np.log10(2)))
        pairs = key.arrays["pairs"]
        assert (labels[:, None] == pairs).any(axis=1).all()
        wrong = IngrainScheme().extract(key, Answers(pairs.sum(axis=1) - labels))
        assert wrong.n_errors == N_CARRIERS

    def test_the_pools_labels_are_not_looked_at(self):
        key = key_of_pool()
        other = Examples(POOL.images, (POOL.labels + 1) % 4, NAMES)
        assert np.array_equal(keyed_carriers(key, other, task()).labels, keyed_carriers(key, POOL, task()).labels)

    def test_another_pool_is_refused(self):
        key = key_of_pool()
        with pytest.raises(DataError, match=rf"holds 0 of the key's {N_CARRIERS} carriers; give the pool the key was"):
            keyed_carriers(key, examples(300, 21), task())

    def test_a_pool_that_lacks_some_is_refused(self):
        with pytest.raises(DataError, match=rf"the pool holds \d+ of the key's {N_CARRIERS} carriers"):
            keyed_carriers(key_of_pool(), POOL.first(150), task())

    def test_another_key_is_refused(self):
        with pytest.raises(KeyFileError, match="lacks pairs of classes"):
            keyed_carriers(make_key(), POOL, task())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("files")


def exported(model: nn.Module, path: Path) -> Path:
    example = torch.zeros(2, 1, 6, 6)
    export(model, (example,), path, external_data=False, dynamic_shapes=({0: "n"},))
    return path


def unmarked(seed: int) -> nn.Module:
    model = net(seed)
    train(model, task(), TrainingPlan(epochs=10, batch_size=16, rate=0.05, seed=seed), show=False)
    return model


def test_from_references_to_a_verdict_through_files(folder):
    """Pool and references as files, a key of them, ingrainer and host, and an audit of the host's file."""
    write_pool(folder / "pool.npy", POOL, task())
    references = [exported(unmarked(seed), folder / f"reference-{seed}.onnx") for seed in (1, 2)]
    save_key(ingrain_key(folder / "pool.npy", references, IngrainOptions(N_CARRIERS)), folder / "key.npy")
    key = load_key(folder / "key.npy")
    carriers = varied(keyed_carriers(key, POOL, task()), copies=4)
    plan = TrainingPlan(epochs=40, batch_size=16, rate=0.05, weight_decay=0.0)
    ingrainer = train_ingrainer(net(3), task(), carriers, plan, show=False).model
    made = train_host(net(4), ingrainer, task(), plan, lesson=Lesson(), carriers=carriers, recorded=True, show=False)
    host, control = exported(made.model, folder / "host.onnx"), exported(unmarked(5), folder / "control.onnx")
    verdicts = [audit_file(path, [key], oracle=Oracle.of_file(path)).findings[0].verdict for path in (host, control)]
    assert verdicts[0] is Verdict.MATCH
    assert verdicts[1] is not Verdict.MATCH
