from __future__ import annotations

import importlib.metadata
import sys

import pytest
from onnxmark_tf import backends, frameworks
from onnxmark_tf.backends import candidates, require, versions
from onnxmark_tf.frameworks import first_line, imported

from onnxmark.errors import ConversionError, MissingExtra, SettingError


@pytest.fixture
def installed(monkeypatch):
    """Set what is installed."""
    monkeypatch.delenv("KERAS_BACKEND", raising=False)

    def install(*packages):
        monkeypatch.setattr(backends, "find_spec", lambda name: name in packages or None)

    return install


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        (("tensorflow", "tf2onnx", "torch", "onnxscript", "jax", "jax2onnx"), ("tensorflow", "torch", "jax")),
        (("tensorflow", "torch", "onnxscript"), ("torch",)),
        (("jax", "jax2onnx"), ("jax",)),
        ((), ("tensorflow",)),
    ],
)
def test_every_backend_with_its_exporter_is_tried(packages, expected, installed):
    installed(*packages)
    assert candidates(None) == expected


def test_one_that_is_asked_for_is_tried_alone(installed, monkeypatch):
    installed("tensorflow", "tf2onnx", "torch", "onnxscript")
    assert candidates("torch") == ("torch",)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert candidates(None) == ("jax",)
    assert candidates("torch") == ("torch",)


def test_a_backend_without_an_exporter_is_refused(installed, monkeypatch):
    installed()
    with pytest.raises(SettingError, match=r"on the backend 'openvino'; there are: tensorflow, torch, jax"):
        candidates("openvino")
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    with pytest.raises(SettingError, match="backend 'numpy'"):
        candidates(None)


@pytest.mark.parametrize(
    ("packages", "backend", "words"),
    [
        ((), "tensorflow", r"testing needs tensorflow, which is not installed; run: pip install 'onnxmark\[tf\]'"),
        (("tensorflow",), "tensorflow", r"testing needs tf2onnx.*onnxmark\[tf\]"),
        (("torch",), "torch", r"testing needs onnxscript.*onnxmark\[torch\]"),
        (("jax",), "jax", r"testing needs jax2onnx.*onnxmark\[jax\]"),
    ],
)
def test_what_is_missing_is_named_with_its_extra(packages, backend, words, installed):
    installed(*packages)
    with pytest.raises(MissingExtra, match=words):
        require(backend, "testing")


def test_versions_are_those_of_the_distributions():
    numpy, onnx = importlib.metadata.version("numpy"), importlib.metadata.version("onnx")
    assert (
        versions(("numpy", "onnx", "no-such-thing")) == f"numpy {numpy}, onnx {onnx}, no-such-thing (version unknown)"
    )


def test_a_package_that_does_not_import_is_told_from_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "torn_framework.py").write_text("raise TypeError('Descriptors cannot be created directly')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ConversionError,
        match=r"torn_framework does not import beside .*protobuf \d.*Descriptors cannot.*pip install -U",
    ):
        imported("torn_framework", "tf", "testing")
    with pytest.raises(MissingExtra, match=r"testing needs absent_framework"):
        imported("absent_framework", "tf", "testing")


def test_keras_of_another_backend_in_this_process_is_refused():
    keras = pytest.importorskip("keras")
    other = next(name for name in backends.BACKENDS if name != keras.backend.backend() and not backends._absent(name))
    with pytest.raises(ConversionError, match=rf"is to run on {other}, but Keras runs on"):
        frameworks.keras_on(other, "testing")


def test_keras_2_is_refused(tmp_path, monkeypatch):
    (tmp_path / "keras.py").write_text("__version__ = '2.15.0'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    with pytest.raises(ConversionError, match="needs Keras 3"):
        frameworks.keras_on(None, "testing")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\n  two\x1b[1m three\x1b[0m"), "one two three"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 400), "x" * 297 + "..."),
    ],
)
def test_an_error_is_one_line(error, line):
    assert first_line(error) == line
