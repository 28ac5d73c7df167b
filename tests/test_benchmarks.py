"""What the benchmarks stand on; they measure, these tests only look."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import readers
from benchmarks.calibration import calibrated
from benchmarks.reading_models import TARGET, numerous
from onnxmark.keys import Carrier, Key, Secret, save_key
from tests.onnx_models import conv_chain

ROOT = Path(__file__).parents[1]
HEAVY = {"numpy", "onnx", "onnxruntime", "torch", "scipy"}
SHAPE = (16, 8, 3, 3)
PARAMETERS = {"generator": "rademacher", "carrier": "full"}
# Prints what is imported when the program ends, however it ends.
LISTING = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from onnxmark.cli import main
main()
"""


def imported(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LISTING, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("arguments", [("--help",), ("audit", "--help"), ("--version",)], ids=" ".join)
def test_asking_for_help_imports_nothing_heavy(arguments):
    assert not imported(*arguments) & HEAVY


def test_an_audit_imports_numpy_and_neither_onnx_nor_a_framework(tmp_path):
    path = conv_chain(tmp_path / "model.onnx", [np.random.default_rng(0).standard_normal(SHAPE)])
    key = Key("projection", Secret(bytes(32)), bytes(32), np.zeros(64, np.uint8), Carrier(SHAPE), PARAMETERS)
    save_key(key, tmp_path / "key.npy")
    assert imported("audit", str(path), "--key", str(tmp_path / "key.npy")) & HEAVY == {"numpy"}


def test_even_p_values_are_called_calibrated():
    found = calibrated(np.log10(np.arange(1, 10_001) / 10_000))
    assert found.hits == (1000, 100, 10, 1, 0)
    assert found.distance == pytest.approx(1e-4)
    assert found.excess == pytest.approx(0, abs=1e-12)


def test_small_p_values_that_come_too_often_show_as_excess():
    found = calibrated(np.log10((np.arange(1, 1001) / 1000) ** 2))
    assert found.excess == pytest.approx(0.25, abs=1e-3)
    assert found.excess == found.distance > found.noise


def test_a_cautious_test_has_distance_but_no_excess():
    found = calibrated(np.log10(np.sqrt(np.arange(1, 1001) / 1000)))
    assert found.distance == pytest.approx(0.25, abs=2e-3)
    assert found.excess == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["null_audits", "audit_speed", "help_startup", "reading"])
def test_every_benchmark_says_what_it_is_for(name):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout


def test_all_readers_list_and_read_the_same(tmp_path):
    path = tmp_path / "model.onnx"
    numerous(path, 6)
    times = tmp_path / "times"
    found = {name: library() for name, library in readers.LIBRARIES.items() if "Runtime" not in name}
    listings = [work["list"](str(path), "") for work in found.values()]
    assert all(listing == listings[0] for listing in listings)
    assert len(listings[0]) == 6
    means = [work["read"](str(path), f"{TARGET}.weight") for work in found.values()]
    for mean in means:
        np.testing.assert_array_equal(mean, means[0])
    assert readers.main("onnxmark", "read", str(path), f"{TARGET}.weight", str(times)) == 0
    assert float(times.read_text()) > 0
    assert readers.main("onnxmark", "list", str(tmp_path / "absent"), "", str(times)) == readers.CANNOT
