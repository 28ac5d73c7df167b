"""Model repositories of Triton."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.registry.discovery.registries import found, models, outcomes, put


def test_models_and_versions(tmp_path: Path):
    for version in (1, 2, 10):
        put(tmp_path / "detector" / str(version) / "model.onnx")
    put(tmp_path / "detector" / "config.pbtxt", 'platform: "onnxruntime_onnx"\n')
    assert models(tmp_path) == ["detector/1 (triton)", "detector/10 (triton)", "detector/2 (triton)"]
    assert {each.layout for each in found(tmp_path)} == {"triton"}


def test_without_a_configuration(tmp_path: Path):
    put(tmp_path / "detector" / "3" / "model.onnx")
    assert models(tmp_path) == ["detector/3 (triton)"]


def test_other_files_need_the_configuration(tmp_path: Path):
    put(tmp_path / "with" / "1" / "net.onnx")
    put(tmp_path / "with" / "config.pbtxt", 'default_model_filename: "net.onnx"\n')
    put(tmp_path / "without" / "1" / "net.onnx")
    assert {(each.identity, each.layout) for each in found(tmp_path)} == {
        ("with/1/net.onnx (triton)", "triton"),
        ("without/1/net.onnx", "plain"),
    }


def test_a_model_that_is_a_directory(tmp_path: Path):
    put(tmp_path / "big" / "1" / "model.onnx" / "model.onnx")
    put(tmp_path / "big" / "1" / "model.onnx" / "weights.bin", bytes(100))
    assert models(tmp_path) == ["big/1 (triton)"]


@pytest.mark.parametrize("top", ["repository", "repository/detector"])
@pytest.mark.parametrize("configured", [True, False])
def test_names_do_not_depend_on_where_the_scan_begins(tmp_path: Path, top: str, configured: bool):
    put(tmp_path / "repository" / "detector" / "1" / "model.onnx")
    if configured:
        put(tmp_path / "repository" / "detector" / "config.pbtxt", "")
    assert models(tmp_path / top) == ["detector/1 (triton)"]


def test_repositories_further_down(tmp_path: Path):
    put(tmp_path / "eu" / "detector" / "1" / "model.onnx")
    put(tmp_path / "us" / "detector" / "1" / "model.onnx")
    assert models(tmp_path) == ["eu/detector/1 (triton)", "us/detector/1 (triton)"]


def test_models_of_other_backends_are_counted_beside(tmp_path: Path):
    put(tmp_path / "a" / "config.pbtxt", "")
    put(tmp_path / "a" / "1" / "model.plan.engine", b"\xff" * 10)
    put(tmp_path / "a" / "2" / "model.savedmodel" / "saved_model.pb", b"\x08\x01\x12\x00")
    put(tmp_path / "a" / "3" / "model.pt", b"\x80\x02}q\x00.")
    assert outcomes(tmp_path) == {
        "a/1/model.plan.engine (triton)": "unsupported",
        "a/2/model.savedmodel (triton)/": "unsupported",
        "a/3/model.pt (triton)": "unsupported",
    }


@pytest.mark.parametrize("version", ["v1", "1.0", "-1", "٣", "1a"])
def test_versions_are_numbers(tmp_path: Path, version: str):
    put(tmp_path / "detector" / version / "model.onnx")
    assert models(tmp_path) == [f"detector/{version}/model.onnx"]


def test_a_scan_of_one_version_is_one_of_a_folder(tmp_path: Path):
    put(tmp_path / "detector" / "1" / "model.onnx")
    assert outcomes(tmp_path / "detector" / "1") == {"model.onnx": "model"}


def test_numbers_inside_other_layouts_are_no_versions(tmp_path: Path):
    put(tmp_path / "mlruns" / "0" / "models" / f"m-{'a' * 32}" / "artifacts" / "1" / "model.onnx")
    assert models(tmp_path) == ["m-aaaaaaaaaaaa/1/model.onnx (mlflow)"]
