"""The same loss, gradient, step and mark on every backend of Keras, and as in the PyTorch adapter."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("keras")

from onnxmark.schemes.projection.projection import own_projection
from tests.adapters.secrecy import leaks
from tests.adapters_tf.regularizer_process import STRENGTH
from tests.adapters_tf.regularizer_subjects import (
    CASES,
    KERNELS,
    case_key,
    case_values,
    in_canonical_order,
    make_key,
    reference,
)

ROOT = Path(__file__).parents[2]
BACKENDS = ("torch", "jax")
ELSEWHERE = "ONNXMARK_TEST_PYTHON_"
"""And the backend in capitals: an interpreter that has it, where this one does not."""


@pytest.fixture(scope="module", params=BACKENDS)
def process(request, tmp_path_factory):
    """The folder a process on another backend has left, and what it found."""
    backend = request.param
    python = sys.executable if find_spec(backend) else os.environ.get(f"{ELSEWHERE}{backend.upper()}")
    if python is None:
        pytest.skip(f"{backend} is not installed; {ELSEWHERE}{backend.upper()} can name an interpreter that has it")
    folder = tmp_path_factory.mktemp(backend)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
    done = subprocess.run(
        [python, "-m", "tests.adapters_tf.regularizer_process", str(folder)],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz", allow_pickle=False) as found:
        return folder, dict(found)


@pytest.fixture
def found(process):
    return process[1]


def expected(case):
    layout = KERNELS[case[0]][1]
    return layout, reference(case_key(*case), in_canonical_order(case_values(case[0]), layout))


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_loss_and_gradient_are_those_of_the_reference(found, case):
    number, (layout, (loss, gradient, _)) = CASES.index(case), expected(case)
    assert found[f"loss {number}"] == pytest.approx(0.3 * loss, rel=1e-5)
    np.testing.assert_allclose(
        in_canonical_order(found[f"gradient {number}"], layout),
        0.3 * gradient,
        atol=2e-6 * float(np.abs(gradient).max()),
    )


def test_loss_and_gradient_are_those_of_the_pytorch_adapter(found):
    if "adapter loss 0" not in found:
        pytest.skip("this process has no PyTorch")
    for number, (kernel, *_) in enumerate(CASES):
        theirs = found[f"adapter gradient {number}"]
        ours = in_canonical_order(found[f"gradient {number}"], KERNELS[kernel][1])
        assert found[f"loss {number}"] == pytest.approx(float(found[f"adapter loss {number}"]), rel=1e-5)
        np.testing.assert_allclose(ours, theirs, atol=2e-6 * float(np.abs(theirs).max()))


def test_a_step_of_fit_adds_the_mark_once(found):
    _, gradient, _ = reference(make_key(), in_canonical_order(found["kernel"], "plain"))
    wanted = 0.1 * STRENGTH * np.moveaxis(gradient, (0, 1), (-1, -2))
    np.testing.assert_allclose(found["mark's step"], wanted, atol=3e-7)


def test_training_embeds_the_mark_and_a_file_keeps_it(found):
    _, _, margin = reference(make_key(), in_canonical_order(found["kernel"], "plain"))
    assert margin < 0
    assert found["bit_error_rate"][-1] == 0
    assert found["margin loaded"] == pytest.approx(found["min_margin"][-1])
    assert found["losses loaded"][0] > 0


def test_the_file_does_not_show_the_key(process):
    key, data = make_key(), (process[0] / "model.keras").read_bytes()
    assert leaks(key, key.seed.reveal() + own_projection(key, key.carrier.shape).rows(0, 1).astype("int8").tobytes())
    assert not leaks(key, data)
