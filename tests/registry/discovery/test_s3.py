"""A bucket of a server that speaks S3: moto's, on this machine, through s3fs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onnxmark.model import open_model
from onnxmark.registry.entries import Outcome
from onnxmark.registry.remote import local_copy
from tests.registry.discovery.registries import data_bytes, found, model_bytes, models, only, outcomes

moto = pytest.importorskip("moto.server", reason="needs moto[s3], flask and flask-cors")
s3fs = pytest.importorskip("s3fs", reason="needs s3fs")

# The libraries of the service warn of their own futures, and leave sockets to the collector.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket, found as its user would: through the environment and fsspec's configuration, nothing in the URL."""
    import fsspec

    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": server, "use_listings_cache": False})
    files = fsspec.filesystem("s3")
    files.mkdir("models")
    yield files
    files.rm("models", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket(bucket: Any):
    for name, data in {
        "models/a/m.onnx": model_bytes(0),
        "models/a b/é.onnx": model_bytes(1),
        "models/detector/1/model.onnx": model_bytes(2),
        "models/net.tflite": b"\x1c\0\0\0TFL3",
        "models/notes.txt": b"text",
    }.items():
        bucket.pipe(name, data)
    assert outcomes("s3://models") == {
        "a/m.onnx": "model",
        "a b/é.onnx": "model",
        "detector/1 (triton)": "model",
        "net.tflite": "unsupported",
    }
    assert models("s3://models/a") == ["m.onnx"]
    assert only("s3://models/a").location == "s3://models/a/m.onnx"


def test_a_bucket_with_more_objects_than_a_page_of_the_service(bucket: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
    for index in range(20):
        bucket.pipe(f"models/many/{index:04}.txt", b"x")
    bucket.pipe("models/many/zzzz.onnx", model_bytes())
    assert models("s3://models") == ["many/zzzz.onnx"]


def test_a_model_with_its_data(bucket: Any):
    bucket.pipe("models/m.onnx", model_bytes(4, "m.onnx_data"))
    bucket.pipe("models/m.onnx_data", data_bytes(4))
    with local_copy(only("s3://models").location) as path, open_model(path) as model:
        (site,) = model.sites()
        assert model.read(site).values.tobytes() == data_bytes(4)


def test_a_model_that_is_replaced_has_another_stamp(bucket: Any):
    bucket.pipe("models/m.onnx", model_bytes(0))
    before = only("s3://models").stamp
    bucket.pipe("models/m.onnx", model_bytes(1))
    assert before is not None
    assert only("s3://models").stamp != before


def test_a_bucket_that_is_not_there(bucket: Any):
    (one,) = found("s3://nowhere-at-all")
    assert one.outcome is Outcome.FAILED
