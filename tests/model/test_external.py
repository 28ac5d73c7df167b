"""External data stay in the model's directory and inside their file."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxmark.errors import ExternalDataError
from onnxmark.model import open_model
from tests.model.models import conv, model, save, tensor, weights

W = weights(6, 4, 3, 3)


def external(location: str | None, offset: str | None = "16", length: str | None = str(W.nbytes)) -> onnx.ModelProto:
    made = model([conv("w")], [tensor("w", W)])
    stored = made.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            stored.external_data.add(key=key, value=value)
    return made


def data(path: Path, before: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(before) + W.tobytes())
    return path


def read(path: Path) -> np.ndarray:
    with open_model(path) as opened:
        return opened.read(opened.sites()[0]).values


@pytest.mark.parametrize("location", ["m.onnx.data", "sub/dir/m.data", "./m.data", "..data", "a..b", "wörter"])
def test_beside_the_model(tmp_path: Path, location: str) -> None:
    data(tmp_path / location)
    np.testing.assert_array_equal(read(save(external(location), tmp_path / "m.onnx")), W)


@pytest.mark.parametrize(("offset", "length"), [(None, None), ("0", None), (None, str(W.nbytes))])
def test_offset_and_length_may_be_left_out(tmp_path: Path, offset: str | None, length: str | None) -> None:
    data(tmp_path / "d", before=0)
    np.testing.assert_array_equal(read(save(external("d", offset, length), tmp_path / "m.onnx")), W)


def test_as_onnx_writes_them(tmp_path: Path) -> None:
    made = model([conv("w", out="a"), conv("v", "a")], [tensor("w", W), tensor("v", weights(3, 6, 2, 2))])
    onnx.save_model(
        made, str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.onnx.data", size_threshold=0
    )
    with open_model(tmp_path / "m.onnx") as opened:
        assert opened.sites()[0].stored == "initializer float32, external data 'm.onnx.data'"
        found = opened.weights()
    np.testing.assert_array_equal(found["w"].values, W)
    np.testing.assert_array_equal(found["v"].values, weights(3, 6, 2, 2))


REFUSED = {
    "empty": ("", {}, "location '' is empty"),
    "absent": (None, {}, "location '' is empty"),
    "parent": ("../d", {}, "contains '..'"),
    "parent inside": ("sub/../d", {}, "contains '..'"),
    "parent, backslashes": ("sub\\..\\d", {}, "contains '..'"),
    "absolute": ("/etc/passwd", {}, "is not relative"),
    "drive": ("C:\\d", {}, "is not relative"),
    "share": ("\\\\server\\d", {}, "is not relative"),
    "NUL": ("d\0", {}, "contains a NUL"),
    "missing": ("nowhere", {}, "is not beside the model"),
    "a directory": ("sub", {}, "is a directory"),
    "negative offset": ("d", {"offset": "-1"}, "offset '-1' is not a number of bytes"),
    "offset in words": ("d", {"offset": "0x10"}, "is not a number of bytes"),
    "digits of another script": ("d", {"offset": "١"}, "is not a number of bytes"),
    "offset of twenty digits": ("d", {"offset": "1" * 20}, "is not a number of bytes"),
    "beyond the end": ("d", {"offset": "17"}, "ends at byte 881 of 'd', which has 880 bytes"),
    "far beyond the end": ("d", {"offset": "9" * 19}, "which has 880 bytes"),
    "negative length": ("d", {"length": "-864"}, "length '-864' is not a number of bytes"),
    "too short": ("d", {"length": "860"}, "it has 864 bytes by its shape and 860 in 'd'"),
    "too long": ("d", {"length": "865"}, "it has 864 bytes by its shape and 865 in 'd'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    location, other, why = REFUSED[case]
    data(tmp_path / "d")
    data(tmp_path / "sub" / "x")
    path = save(external(location, **other), tmp_path / "m.onnx")
    with open_model(path) as opened:
        (site,) = opened.sites()
        assert site.problem is not None
        with pytest.raises(ExternalDataError, match="tensor 'w': .*" + re.escape(why)):
            opened.read(site)


def test_links_that_lead_out(tmp_path: Path) -> None:
    data(tmp_path / "secret")
    home = tmp_path / "home"
    home.mkdir()
    (home / "d").symlink_to("../secret")
    (home / "sub").symlink_to("..")
    for location in ("d", "sub/secret"):
        with pytest.raises(ExternalDataError, match="leads out of the model's directory"):
            read(save(external(location), home / "m.onnx"))


def test_links_that_stay_inside_and_hard_links(tmp_path: Path) -> None:
    data(tmp_path / "store" / "real")
    (tmp_path / "soft").symlink_to("store/real")
    os.link(tmp_path / "store" / "real", tmp_path / "hard")
    for location in ("soft", "hard"):
        np.testing.assert_array_equal(read(save(external(location), tmp_path / "m.onnx")), W)


def test_link_loop_and_pipe(tmp_path: Path) -> None:
    (tmp_path / "d").symlink_to("d")
    with pytest.raises(ExternalDataError, match="is not beside the model"):
        read(save(external("d"), tmp_path / "m.onnx"))
    os.mkfifo(tmp_path / "p")
    with pytest.raises(ExternalDataError, match=r"tensor 'w'.*is a pipe"):
        read(save(external("p"), tmp_path / "m.onnx"))


def cache(tmp_path: Path, name: str = "models--org--net") -> Path:
    repo = tmp_path / "hub" / name
    snapshot = repo / "snapshots" / "abc" / "onnx"
    snapshot.mkdir(parents=True)
    save(external("m.onnx_data"), data(repo / "blobs" / "2222").parent / "1111")
    (snapshot / "m.onnx").symlink_to("../../../blobs/1111")
    (snapshot / "m.onnx_data").symlink_to("../../../blobs/2222")
    return snapshot


def test_hugging_face_cache(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(cache(tmp_path) / "m.onnx"), W)


def test_hugging_face_cache_of_another_repository(tmp_path: Path) -> None:
    snapshot = cache(tmp_path)
    data(tmp_path / "hub" / "models--org--other" / "blobs" / "3333")
    (snapshot / "m.onnx_data").unlink()
    (snapshot / "m.onnx_data").symlink_to("../../../../models--org--other/blobs/3333")
    with pytest.raises(ExternalDataError, match="leads out"):
        read(snapshot / "m.onnx")


@pytest.mark.parametrize("told", [True, False])
def test_hugging_face_cache_that_shares_its_blobs(tmp_path: Path, told: bool) -> None:
    snapshot = cache(tmp_path)
    hub = tmp_path / "hub"
    shared = data(hub / "blobs" / "22" / "2222")
    (hub / "models--org--net" / "blobs" / "2222").unlink()
    (hub / "models--org--net" / "blobs" / "2222").symlink_to(shared)
    if told:
        (hub / ".huggingface-shared-blobs").touch()
        np.testing.assert_array_equal(read(snapshot / "m.onnx"), W)
    else:
        with pytest.raises(ExternalDataError, match="leads out"):
            read(snapshot / "m.onnx")


def test_folders_that_only_look_alike(tmp_path: Path) -> None:
    with pytest.raises(ExternalDataError, match="leads out"):
        read(cache(tmp_path, "projects") / "m.onnx")


def test_blobs_that_are_a_link_away(tmp_path: Path) -> None:
    snapshot = cache(tmp_path)
    repo = snapshot.parents[2]
    (repo / "blobs").rename(tmp_path / "elsewhere")
    (repo / "blobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExternalDataError, match="leads out"):
        read(snapshot / "m.onnx")


def test_model_that_is_a_link_looks_beside_the_link(tmp_path: Path) -> None:
    data(tmp_path / "store" / "d")
    save(external("d"), tmp_path / "store" / "m.onnx")
    (tmp_path / "link.onnx").symlink_to("store/m.onnx")
    with pytest.raises(ExternalDataError, match="the model is a link, and data are looked for beside the link"):
        read(tmp_path / "link.onnx")
