"""What the benchmarks stand on; they measure, these tests only look."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import deep_compression, fashion_net, file_attacks, kernel_changes, mean_against_full, readers
from benchmarks.calibration import calibrated
from benchmarks.reading_models import TARGET, numerous
from onnxmark.attacks import Means
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
    key = Key("projection", Secret(bytes(32)), bytes(32), np.zeros(64, np.uint8), (Carrier(SHAPE),), PARAMETERS)
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


@pytest.mark.parametrize(
    "name",
    [
        "null_audits",
        "audit_speed",
        "help_startup",
        "reading",
        "file_attacks",
        "mean_against_full",
        "deep_compression",
        "structural",
    ],
)
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


def test_fashion_net_keeps_its_weights_and_its_input_moment_predicts_its_outputs():
    torch.manual_seed(0)
    net = fashion_net.FashionNet().eval()
    pixels = np.random.default_rng(0).random((3, 1, 28, 28), dtype=np.float32)
    values = np.random.default_rng(1).standard_normal(fashion_net.SHAPE).astype(np.float32)
    before = net.host
    with torch.inference_mode():
        outputs = torch.nn.functional.conv2d(
            net.features(torch.from_numpy(pixels)), torch.from_numpy(values), padding=1
        )
    rows = values.reshape(64, -1).astype(np.float64)
    moment = fashion_net.input_moment(net, pixels)[0]
    energy = (outputs.double() ** 2).mean(dim=(0, 2, 3)).numpy()
    np.testing.assert_allclose(np.einsum("oi,ij,oj->o", rows, moment, rows), energy, rtol=1e-4)
    np.testing.assert_array_equal(net.with_host(values).host, values)
    np.testing.assert_array_equal(net.host, before)


@pytest.mark.parametrize("row", file_attacks.TABLE, ids=lambda row: row.label)
def test_every_row_of_the_file_attacks_leaves_a_finite_kernel_of_the_same_shape(row):
    rng = np.random.default_rng(0)
    values, reference = (rng.normal(0, 0.05, fashion_net.SHAPE).astype(np.float32) for _ in range(2))
    means = Means(rng, reference=reference, second_moment=np.eye(576)[None])
    result = row.change(values, means)
    assert result.dtype == np.float32
    assert result.shape == values.shape
    assert np.isfinite(result).all()
    harmless = row.label in ("none", "13 zero channels appended", "6 cliques appended", "kernels to 5x5, cut again")
    assert np.array_equal(result, values) == harmless


def test_symmetries_of_a_kernel_do_what_their_names_say():
    values = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    means = Means(np.random.default_rng(1), reference=values.copy())
    shuffled = kernel_changes.permuted(1)(values, means)
    np.testing.assert_array_equal(np.sort(shuffled, axis=1), np.sort(values, axis=1))
    np.testing.assert_array_equal(np.abs(kernel_changes.flipped(0)(values, means)), np.abs(values))
    scaled = kernel_changes.rescaled(1.0, 0)(values, means)
    assert np.ptp(scaled / values, axis=(1, 2, 3)).max() < 1e-5 < np.ptp(scaled / values)
    np.testing.assert_allclose(kernel_changes.with_stored_norms(scaled, means), values, rtol=1e-5)
    split = kernel_changes.with_dummies(splits=3)(values, means) / values
    assert np.sum(split[0, :, 0, 0] < 1) == 3
    with pytest.raises(ValueError, match="stored norms are those of the unmarked layer, found none"):
        kernel_changes.with_stored_norms(values, Means(np.random.default_rng(1)))


def test_every_strike_has_a_reference_for_every_way():
    assert all(len(strike.references) == len(mean_against_full.WAYS) for strike in mean_against_full.STRIKES)
    assert len({way.name for way in mean_against_full.WAYS}) == len(mean_against_full.WAYS)


def test_a_deeply_compressed_network_comes_back_bit_by_bit():
    torch.manual_seed(0)
    net = deep_compression.LeNet5()
    assert {name.partition(".")[0] for name, _ in net.named_parameters()} == {
        plan.layer for plan in deep_compression.PLANS
    }
    for plan in deep_compression.PLANS:
        deep_compression.prune_layer(net, plan)
    deep_compression.share_weights(net)
    layers = deep_compression.compressed(net)
    assert sum(layer.sizes.n_weights for layer in layers) == 430_500
    for layer in layers:
        assert layer.sizes.n_stored == round(layer.plan.kept * layer.sizes.n_weights)
        assert 1 < layer.coded.codebook.size <= 2**layer.plan.bits
    again = deep_compression.restored(net, layers)
    assert deep_compression.same_state(net, again)
    with torch.no_grad():
        again.fc1.weight[3, 7] += 1e-3
    assert not deep_compression.same_state(net, again)
