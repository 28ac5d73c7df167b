"""One marked network through every exporter, optimiser, quantiser and container: the mark is found in each file."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from onnxmark.audit import audit_file
from tests.routes.bench import Bench, images
from tests.routes.network import make_key
from tests.routes.table import ROUTES


@pytest.mark.parametrize("name", ROUTES)
def test_the_mark_is_found(bench: Bench, name: str, tmp_path: Path) -> None:
    route = ROUTES[name]
    for package in route.needs:
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    path = route.make(bench, tmp_path)
    ours, other = audit_file(path, [bench.key, make_key("another owner")]).findings
    assert ours.best is not None
    assert ours.best.evidence is not None
    assert re.search(route.stored, ours.best.sites[0].stored), ours.best.sites[0].stored
    assert ours.best.evidence.bit_error_rate == 0
    assert ours.verdict == "match"
    assert other.verdict == route.stranger
    if route.runs:
        assert agreement(bench, path) > 0.9


def agreement(bench: Bench, path: Path) -> float:
    """Share of images to which the file gives the class that the network gives."""
    import onnxruntime as ort
    import torch

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    given = images(32)
    dtype = np.float16 if "float16" in source.type else np.float32
    found = [session.run(None, {source.name: pair.astype(dtype)})[0] for pair in np.split(given, 16)]
    with torch.no_grad():
        expected = bench.model(torch.from_numpy(given)).argmax(1).numpy()
    return float(np.mean(np.concatenate(found).argmax(1) == expected))


def test_there_are_enough_routes() -> None:
    assert len(ROUTES) >= 60


def test_the_readme_lists_the_routes() -> None:
    text = (Path(__file__).parent / "README.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    told = {row[0]: row[2] for row in rows if len(row) == 3 and row[0] != "route"}
    assert list(told) == list(ROUTES)
    for name, words in told.items():
        assert re.search(ROUTES[name].stored, words), name


def test_the_network_is_as_promised(bench: Bench) -> None:
    """Folding changes the carrier by more than a factor, and keeps every sign."""
    norm = bench.model.norm2
    scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    assert float(scale.min()) > 0
    assert float(scale.std() / scale.mean()) > 0.15
