"""The marked network, trained once a session."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

from tests.routes.bench import Bench
from tests.routes.network import make_key, trained


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    key = make_key()
    return Bench(trained(key), key, tmp_path_factory.mktemp("bench"))
