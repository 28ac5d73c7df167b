"""A registry of real models as a company would have it: a Hugging Face cache, an MLflow store and a folder, scanned.

Two of the models were marked by ``embed`` and quantised afterwards; the scan has to find these and no other.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from onnxmark.cli import run
from onnxmark.keymaking import carrier_of, make_key, suggest_site
from onnxmark.keys import save_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from tests.real.models import SUBJECTS, locate
from tests.routes.runtime import dynamic, resaved, without_shapes

MARKED = {"ch_ppocr_mobile_v2.0_cls_infer.onnx": "hub", "silero_vad_16k_op15.onnx": "mlflow"}
"""What is marked, and where it ends up."""
N_BITS = 128


def in_hub(root: Path, repository: str, path: Path) -> str:
    """Put a file into a Hugging Face cache as the hub's own client does; its identity."""
    folder = root / "hub" / f"models--{repository.replace('/', '--')}"
    blob = folder / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
    blob.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, blob)
    revision = hashlib.sha1(repository.encode()).hexdigest()
    link = folder / "snapshots" / revision / path.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(Path("..", "..", "blobs", blob.name))
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(revision)
    return path.name


def in_mlflow(root: Path, number: int, path: Path) -> None:
    """Put a file into a store as MLflow 3 lays it out."""
    folder = root / "mlruns" / "1" / "models" / f"m-{number:032x}" / "artifacts"
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text(f"flavors:\n  onnx:\n    data: model.onnx\nmodel_id: m-{number:032x}\n")
    shutil.copy(path, folder / "model.onnx")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """The registry, the ring, and what each key is in."""
    room = tmp_path_factory.mktemp("real")
    root, ring = room / "registry", room / "ring"
    ring.mkdir()
    there = [(package, name, path) for package, name in SUBJECTS if (path := locate(package, name)) is not None]
    names = {name for _, name, _ in there}
    if not names >= set(MARKED):
        pytest.skip("needs real models: pip install --no-deps rapidocr-onnxruntime silero-vad")
    planted = {}
    for number, (package, name, path) in enumerate(there):
        (root / "folder" / package).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "folder" / package / name)
        with open_model(path) as model:
            key = make_key(carrier_of(suggest_site(model.sites(), N_BITS)), np.zeros(N_BITS, np.uint8))
        saved = save_key(key, ring / f"{number}.npy")
        source = path
        if name in MARKED:
            embed_file(path, key, room / name)
            quantised = room / "int8" / name
            quantised.parent.mkdir(exist_ok=True)
            source = dynamic(without_shapes(resaved(room / name, room / f"basic-{name}", "basic")), quantised)
            planted[saved.commitment] = MARKED[name]
        if MARKED.get(name, "hub" if number % 2 else "mlflow") == "hub":
            in_hub(root, f"{package}/model{number}", source)
        else:
            in_mlflow(root, number, source)
    return root, ring, planted


def test_the_two_marked_models_are_found_and_no_other(
    registry: tuple[Path, Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, ring, planted = registry
    assert run(["scan", str(root), "--keys", str(ring), "--no-progress", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    coverage = document["coverage"]
    assert coverage["failed"] == []
    assert coverage["audited"] == coverage["found"] == 2 * len(list(ring.iterdir()))
    layouts = {entry["model"]["layout"] for entry in document["entries"]}
    assert layouts == {"plain", "hugging-face", "mlflow"}
    found = {
        finding["key"]["commitment"]: entry["model"]["layout"]
        for entry in document["entries"]
        for finding in entry["findings"]
        if finding["verdict"] == "match"
    }
    wanted = {commitment: {"hub": "hugging-face"}.get(place, place) for commitment, place in planted.items()}
    assert found == wanted
