"""One front door: what it names exists, lives where it says, and costs nothing until it is used."""

import importlib
import subprocess
import sys

import pytest

import onnxmark


def test_every_public_name_is_there_and_documented():
    for name in onnxmark.__all__:
        value = getattr(onnxmark, name)
        if name != "__version__":
            assert value.__doc__, name
            assert getattr(importlib.import_module(onnxmark._HOME[name]), name) is value
    assert set(onnxmark._HOME) | {"__version__"} == set(onnxmark.__all__) == set(dir(onnxmark))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        onnxmark.nothing  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    code = "import onnxmark, sys; print([m for m in ('numpy', 'rich', 'typer', 'onnx') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_versions_agree():
    from importlib.metadata import version

    assert version("onnxmark") == onnxmark.__version__
