"""The converters as users get them: in a process of their own, started from one that knows no framework."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from onnxmark_tf import converter
from onnxmark_tf.exchange import ExportRefused, write_converted, write_error

from onnxmark.conversion import Container, Converted, Request, convert
from onnxmark.errors import ConversionError, MissingExtra, ModelUnavailable, TrustRequired
from tests.adapters_tf.conversions import origins, run
from tests.adapters_tf.nets import HOSTS, inputs, outputs


def converted(source, target, **options):
    return convert(Request(source, Container.KERAS, target, **options), lambda _: converter.convert)


QUIETLY = """
import sys
from pathlib import Path
from onnxmark.conversion import Container, Request, convert
import onnxmark_tf
made = convert(Request(Path(sys.argv[1]), Container.KERAS, Path(sys.argv[2])), lambda _: onnxmark_tf.convert)
print(made.n_found, sorted({"keras", "tensorflow", "tf2onnx", "torch", "jax", "h5py"} & set(sys.modules)))
"""


def test_nothing_is_printed_and_no_framework_is_imported(files, every_kind, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", QUIETLY, files["kinds.keras"], tmp_path / "m.onnx"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{len(HOSTS)} []\n", "")
    arrays = inputs(every_kind)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", arrays), outputs(every_kind, arrays), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_other_backends_write_the_same_weights(backend, files, every_kind, tmp_path):
    exporter = {"torch": "onnxscript", "jax": "jax2onnx"}[backend]
    if find_spec(backend) is None or find_spec(exporter) is None:
        pytest.skip(f"{backend} or {exporter} is not installed")
    made = converted(files["kinds.keras"], tmp_path / "m.onnx", backend=backend)
    assert f" on {backend} " in made.route
    arrays = inputs(every_kind)
    np.testing.assert_allclose(run(made.output, arrays), outputs(every_kind, arrays), rtol=1e-3, atol=1e-4)
    lost = {"transposed/kernel"} if backend == "jax" else set()
    assert set(origins(made)) == set(HOSTS) - lost
    assert bool(made.notes) == bool(lost)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelUnavailable, match="no such file"):
        converter.convert(Request(tmp_path / "m.tflite", Container.TFLITE, tmp_path / "m.onnx"))


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Replace the process by a function of its folder; each call's backend is kept."""
    backends = []

    def replaced(answer):
        def run(command, **options):
            backends.append(options["env"].get("KERAS_BACKEND"))
            return subprocess.CompletedProcess(command, answer(converter.Path(command[-1]), options) or 0)

        monkeypatch.setattr(converter.subprocess, "run", run)
        return backends

    return replaced


REQUEST = Request(converter.Path("/m.keras"), Container.KERAS, converter.Path("/m.onnx"))


def test_a_refused_export_is_tried_on_the_next_backend(child, monkeypatch):
    monkeypatch.setattr(converter, "candidates", lambda _: ("tensorflow", "torch", "jax"))

    def answer(folder, options):
        if options["env"]["KERAS_BACKEND"] == "torch":
            converter_outcome(folder)
        else:
            write_error(folder, ExportRefused("no such operator"))

    backends = child(answer)
    assert converter.convert(REQUEST).route == "fine"
    assert backends == ["tensorflow", "torch"]


def converter_outcome(folder):
    write_converted(folder, Converted("fine", ()))


def test_the_first_refusal_is_told_where_all_refuse(child, monkeypatch):
    monkeypatch.setattr(converter, "candidates", lambda _: ("tensorflow", "torch"))
    backends = child(
        lambda folder, options: write_error(folder, ExportRefused(f"not on {options['env']['KERAS_BACKEND']}"))
    )
    with pytest.raises(ConversionError, match=r"^not on tensorflow$"):
        converter.convert(REQUEST)
    assert backends == ["tensorflow", "torch"]


@pytest.mark.parametrize("error", [TrustRequired("code"), ConversionError("damaged"), MissingExtra("a", "b", "c")])
def test_other_errors_end_the_search(error, child, monkeypatch):
    monkeypatch.setattr(converter, "candidates", lambda _: ("tensorflow", "torch"))
    backends = child(lambda folder, _: write_error(folder, error))
    with pytest.raises(type(error), match=re.escape(str(error))):
        converter.convert(REQUEST)
    assert backends == ["tensorflow"]


def test_a_crash_is_one_line(child):
    child(lambda *_: -signal.SIGSEGV)
    with pytest.raises(ConversionError, match=r"'/m.keras': the process that read it was ended by SIGSEGV; the file"):
        converter.convert(replace(REQUEST, backend="tensorflow"))


def test_a_failure_of_our_own_is_one_line(child):
    def answer(_, options):
        options["stderr"].write(b"Traceback\n  File\nRecursionError: too deep\n")
        options["stderr"].flush()
        return 1

    child(answer)
    with pytest.raises(ConversionError, match=r"failed: RecursionError: too deep; report this") as caught:
        converter.convert(replace(REQUEST, backend="tensorflow"))
    assert "\n" not in str(caught.value)


def test_the_environment_of_the_caller_is_left_alone(child):
    seen = {}

    def answer(folder, options):
        seen.update(options["env"])
        converter_outcome(folder)

    child(answer)
    before = dict(os.environ)
    converter.convert(replace(REQUEST, backend="torch"))
    assert dict(os.environ) == before
    assert (seen["KERAS_BACKEND"], seen["TF_CPP_MIN_LOG_LEVEL"], seen["CUDA_VISIBLE_DEVICES"]) == ("torch", "3", "-1")


@pytest.mark.parametrize("container", [Container.TFLITE, Container.SAVED_MODEL])
def test_what_keras_has_no_part_in_takes_no_backend(container, child, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    backends = child(lambda folder, _: write_error(folder, ExportRefused("no such operator")))
    with pytest.raises(ConversionError, match="no such operator"):
        converter.convert(replace(REQUEST, container=container))
    assert backends == ["tensorflow"]
