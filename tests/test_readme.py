"""Every block of the README is run as it stands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import onnxmark
from onnxmark.cli.exits import ExitCode
from tests.onnx_models import conv_chain, kernel

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
NETWORK = """
import torch


def build():
    layers = torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.Identity(), torch.nn.Conv2d(16, 32, 3)
    return torch.nn.Sequential(*layers)
"""
DEMO = Path(onnxmark.__file__).parent / "demo_data"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's working directory: a model, calibration inputs, and a legacy model with its key."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(DEMO / "unmarked.onnx", folder / "model.onnx")
    shutil.copy(DEMO / "calibration.npz", folder / "inputs.npz")
    values, matrix = kernel((16, 8, 3, 3)), np.random.default_rng(0).standard_normal((72, 40))
    conv_chain(folder / "legacy.onnx", [values])
    np.save(folder / "legacy_w.npy", matrix)
    np.save(folder / "legacy_b.npy", (values.mean(axis=0).transpose(1, 2, 0).ravel() @ matrix > 0).astype(float)[None])
    network(folder)
    return folder


def network(folder):
    """A user's own network: its code, and its weights in a file."""
    (folder / "mynet.py").write_text(NETWORK)
    layers = {"0": (16, 1, 3, 3), "3": (32, 16, 3, 3)}
    weights = {f"{name}.weight": kernel(shape) for name, shape in layers.items()}
    biases = {f"{name}.bias": np.zeros(shape[0], np.float32) for name, shape in layers.items()}
    safetensors.numpy.save_file({**weights, **biases}, folder / "net.safetensors")


def run(command, folder):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )


def test_shell_blocks_run(folder):
    assert len(blocks("sh")) >= 3
    for block in blocks("sh"):
        result = run(["bash", "-e", "-c", block], folder)
        assert result.returncode == 0, block + result.stdout + result.stderr


@pytest.mark.parametrize("index", range(len(blocks("python"))))
def test_python_blocks_run(folder, index):
    if not (folder / "key.npy").exists():
        run(["onnxmark", "keygen", "--model", "model.onnx", "-o", "key.npy"], folder)
    result = run([sys.executable, "-c", blocks("python")[index]], folder)
    assert result.returncode == 0, result.stdout + result.stderr


def test_exit_codes_are_the_programs():
    table = dict(re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE))
    assert table == {str(code.value): code.meaning for code in ExitCode}


def test_set_up_commands_are_targets():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", blocks("bash")[0], re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
