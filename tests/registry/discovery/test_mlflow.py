"""MLflow's stores as version 3.17 and the file store before leave them, whole, damaged and hostile."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from onnxmark.registry.layouts.mlflow_names import Registry
from tests.registry.discovery.registries import found, models, only, outcomes, put

FIRST, SECOND, THIRD = (f"m-{digit * 32}" for digit in "abc")
RUN = "41e5ce495f80491a9f2a29684e967980"

# The columns MLflow 3.17 makes, without its foreign keys.
TABLES = """
CREATE TABLE model_versions (
    name VARCHAR(256) NOT NULL, version INTEGER NOT NULL, creation_time BIGINT, last_updated_time BIGINT,
    description VARCHAR(5000), user_id VARCHAR(256), current_stage VARCHAR(20), source VARCHAR(500),
    run_id VARCHAR(32), status VARCHAR(20), status_message VARCHAR(500), run_link VARCHAR(500),
    storage_location VARCHAR(500), workspace VARCHAR(63) DEFAULT 'default' NOT NULL,
    CONSTRAINT model_version_pk PRIMARY KEY (workspace, name, version)
);
CREATE TABLE logged_models (
    model_id VARCHAR(36) NOT NULL, experiment_id INTEGER NOT NULL, name VARCHAR(500) NOT NULL,
    artifact_location VARCHAR(1000) NOT NULL, CONSTRAINT logged_models_pk PRIMARY KEY (model_id)
);
"""


def database(
    path: Path,
    versions: list[tuple[str, int, str | None, str | None]] = [],  # noqa: B006
    logged: list[tuple[str, str]] = [],  # noqa: B006
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(TABLES)
        connection.executemany(
            "INSERT INTO model_versions (name, version, source, storage_location) VALUES (?, ?, ?, ?)", versions
        )
        connection.executemany("INSERT INTO logged_models VALUES (?, 0, ?, '')", logged)
    return path


def logged_model(store: Path, number: str, experiment: str = "0", file: str = "model.onnx") -> Path:
    home = store / experiment / "models" / number
    put(home / "artifacts" / "MLmodel", "flavors:\n  onnx:\n    data: model.onnx\n")
    put(home / "artifacts" / "conda.yaml", "name: mlflow-env\n")
    return put(home / "artifacts" / file)


def run_artifact(store: Path, artifact: str, run: str = RUN, experiment: str = "0") -> Path:
    put(store / experiment / run / "meta.yaml", f"run_id: {run}\n")
    return put(store / experiment / run / "artifacts" / artifact)


def version_file(store: Path, name: str, version: int, source: str, location: str = "") -> None:
    """As the file store writes it: sorted keys, plain scalars."""
    lines = ["creation_timestamp: 1795273024919", "current_stage: None", "description: null"]
    lines += [f"name: {name}", f"run_id: {RUN}", f"source: {source}", "status: READY"]
    lines += [f"storage_location: {location}"] if location else []
    put(store / "models" / name / f"version-{version}" / "meta.yaml", "\n".join([*lines, f"version: {version}", ""]))


def test_names_from_the_database(tmp_path: Path):
    for number in (FIRST, SECOND, THIRD):
        logged_model(tmp_path / "mlruns", number)
    database(
        tmp_path / "mlflow.db",
        [("resnet", 1, f"models:/{FIRST}", None), ("resnet", 2, None, f"/srv/mlruns/0/models/{SECOND}/artifacts")],
        [(FIRST, "net"), (SECOND, "net"), (THIRD, "other")],
    )
    assert models(tmp_path) == ["resnet v1 (mlflow)", "resnet v2 (mlflow)", "other m-cccccccccccc (mlflow)"]
    assert {each.layout for each in found(tmp_path)} == {"mlflow"}


@pytest.mark.parametrize("top", ["", "mlruns", "mlruns/0", f"mlruns/0/models/{FIRST}"])
def test_names_are_found_above_the_root(tmp_path: Path, top: str):
    logged_model(tmp_path / "mlruns", FIRST)
    database(tmp_path / "mlflow.db", [("resnet", 3, f"models:/{FIRST}", None)])
    assert models(tmp_path / top) == ["resnet v3 (mlflow)"]


def test_several_stores_in_one_root(tmp_path: Path):
    for team in ("a", "b"):
        logged_model(tmp_path / team / "mlruns", FIRST)
        database(tmp_path / team / "mlflow.db", [("net", 1, f"models:/{FIRST}", None)])
    assert models(tmp_path) == ["a/net v1 (mlflow)", "b/net v1 (mlflow)"]


def test_a_model_registered_twice_has_both_names(tmp_path: Path):
    logged_model(tmp_path / "mlruns", FIRST)
    database(
        tmp_path / "mlflow.db",
        [("net", 10, f"models:/{FIRST}", None), ("net", 9, f"models:/{FIRST}", None), ("best", 1, FIRST, None)],
    )
    assert models(tmp_path) == ["best v1 and net v9 and net v10 (mlflow)"]


def test_other_files_of_a_model(tmp_path: Path):
    logged_model(tmp_path / "mlruns", FIRST)
    logged_model(tmp_path / "mlruns", FIRST, file="extra/second.onnx")
    database(tmp_path / "mlflow.db", [("net", 1, f"models:/{FIRST}", None)])
    assert models(tmp_path) == ["net v1/extra/second.onnx (mlflow)", "net v1 (mlflow)"]


def test_without_a_database_numbers_are_names(tmp_path: Path):
    logged_model(tmp_path / "mlruns", FIRST)
    assert models(tmp_path) == ["m-aaaaaaaaaaaa (mlflow)"]


def test_the_file_store(tmp_path: Path):
    store = tmp_path / "mlruns"
    run_artifact(store, "model/model.onnx")
    run_artifact(store, "deep/er/model/model.onnx")
    run_artifact(store, "loose.onnx")
    logged_model(store, FIRST)
    version_file(store, "old", 1, f"/abs/mlruns/0/{RUN}/artifacts/model")
    version_file(store, "old", 2, f"file:///abs/mlruns/0/{RUN}/artifacts/deep/er/model/")
    version_file(store, "new", 1, f"models:/{FIRST}", f"file:///abs/mlruns/0/models/{FIRST}/artifacts")
    assert models(tmp_path) == [
        "old v2 (mlflow)",
        "run 41e5ce495f80/loose.onnx (mlflow)",
        "old v1 (mlflow)",
        "new v1 (mlflow)",
    ]


@pytest.mark.parametrize(
    "source",
    [
        f"mlflow-artifacts:/0/{RUN}/artifacts/model",
        f"s3://bucket/prefix/0/{RUN}/artifacts/model",
        f"runs:/{RUN}/model",
        f"'/with a quote/mlruns/0/{RUN}/artifacts/model'",
    ],
)
def test_sources_of_every_kind(tmp_path: Path, source: str):
    run_artifact(tmp_path / "mlruns", "model/model.onnx")
    version_file(tmp_path / "mlruns", "net", 4, source)
    assert models(tmp_path) == ["net v4 (mlflow)"]


def test_runs_named_by_the_database_of_mlflow_2(tmp_path: Path):
    """It has no table of logged models and no storage location."""
    run_artifact(tmp_path / "mlruns", "model/data/model.onnx")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE model_versions (name TEXT, version INTEGER, source TEXT)")
        source = f"{tmp_path}/mlruns/0/{RUN}/artifacts/model"
        connection.execute("INSERT INTO model_versions VALUES ('net', 7, ?)", [source])
    assert models(tmp_path) == ["net v7/data/model.onnx (mlflow)"]


def test_names_are_read_as_yaml_reads_them(tmp_path: Path):
    """Version files written by a real YAML library, of values that need no wrapping."""
    yaml = pytest.importorskip("yaml")
    store = tmp_path / "mlruns"
    for version, source in enumerate([f"/a/{RUN}/artifacts/m{i}" for i in range(5)], 1):
        run_artifact(store, f"m{version - 1}/model.onnx")
        text = yaml.safe_dump({"name": "net", "source": source, "version": version, "description": "x: y\nsource: no"})
        put(store / "models" / "net" / f"version-{version}" / "meta.yaml", text)
        assert yaml.safe_load(text)["source"] == source
    assert models(tmp_path) == [f"net v{version} (mlflow)" for version in range(1, 6)]


def test_the_database_is_left_as_it_is(tmp_path: Path):
    logged_model(tmp_path / "mlruns", FIRST)
    path = database(tmp_path / "mlflow.db", [("net", 1, f"models:/{FIRST}", None)])
    before, content = path.stat(), path.read_bytes()
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert models(tmp_path) == ["net v1 (mlflow)"]
    assert path.read_bytes() == content
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert {each.name for each in tmp_path.iterdir()} == {"mlflow.db", "mlruns"}


@pytest.mark.parametrize("data", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 2000, b"\0" * 4096])
def test_damaged_databases(tmp_path: Path, data: bytes):
    logged_model(tmp_path / "mlruns", FIRST)
    put(tmp_path / "mlflow.db", data)
    assert models(tmp_path) == ["m-aaaaaaaaaaaa (mlflow)"]


def test_a_database_cut_anywhere(tmp_path: Path):
    logged_model(tmp_path / "mlruns", FIRST)
    whole = database(tmp_path / "mlflow.db", [("net", 1, f"models:/{FIRST}", None)] * 1).read_bytes()
    for end in range(0, len(whole), 997):
        (tmp_path / "mlflow.db").write_bytes(whole[:end])
        assert models(tmp_path) in (["m-aaaaaaaaaaaa (mlflow)"], ["net v1 (mlflow)"])


def test_a_database_that_is_a_directory_a_link_or_a_pipe(tmp_path: Path):
    for name in ("directory", "link", "pipe"):
        logged_model(tmp_path / name / "mlruns", FIRST)
    real = database(tmp_path / "elsewhere.db", [("net", 1, f"models:/{FIRST}", None)])
    (tmp_path / "directory" / "mlflow.db").mkdir()
    (tmp_path / "link" / "mlflow.db").symlink_to(real)
    os.mkfifo(tmp_path / "pipe" / "mlflow.db")
    assert models(tmp_path) == [f"{name}/m-aaaaaaaaaaaa (mlflow)" for name in ("directory", "link", "pipe")]


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'net', i, 'x' FROM n WHERE i < 0"


def test_a_table_that_never_ends(tmp_path: Path):
    logged_model(tmp_path / "mlruns", FIRST)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute(f"CREATE VIEW model_versions (name, version, source) AS {ENDLESS}")
    start = time.monotonic()
    assert models(tmp_path) == ["m-aaaaaaaaaaaa (mlflow)"]
    assert time.monotonic() - start < 60


def test_values_of_the_wrong_kind(tmp_path: Path):
    logged_model(tmp_path / "mlruns", FIRST)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE model_versions (name, version, source)")
        rows = [(None, 1, FIRST), ("a", "x", FIRST), (b"\xff", 1, FIRST), ("b", 2, 5), ("c", 3, None)]
        connection.executemany("INSERT INTO model_versions VALUES (?, ?, ?)", rows)
        connection.execute("CREATE TABLE logged_models (model_id, name)")
        connection.execute("INSERT INTO logged_models VALUES (?, CAST(X'ff' AS TEXT))", [FIRST])
        connection.execute("INSERT INTO logged_models VALUES (NULL, NULL)")
    assert only(tmp_path).identity == "\\xff m-aaaaaaaaaaaa (mlflow)"


@pytest.mark.parametrize("text", ["", "source:", "source: \n", "\xff", "source: [", "x" * 100_000, "- source: a\n"])
def test_version_files_of_other_content(tmp_path: Path, text: str):
    logged_model(tmp_path / "mlruns", FIRST)
    put(tmp_path / "mlruns" / "models" / "net" / "version-1" / "meta.yaml", text)
    assert models(tmp_path) == ["m-aaaaaaaaaaaa (mlflow)"]


@pytest.mark.parametrize("directory", ["version-", "version-x", "version-1x", "version-" + "9" * 200, "v1"])
def test_version_directories_of_other_names(tmp_path: Path, directory: str):
    logged_model(tmp_path / "mlruns", FIRST)
    put(tmp_path / "mlruns" / "models" / "net" / directory / "meta.yaml", f"source: models:/{FIRST}\n")
    assert models(tmp_path) == ["m-aaaaaaaaaaaa (mlflow)"]


def test_a_store_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for index in range(20):
        logged_model(tmp_path / "mlruns", f"m-{index:032x}")
    database(tmp_path / "mlflow.db")
    opened, connect = [], sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: opened.append(a) or connect(*a, **k))
    assert len(models(tmp_path)) == 20
    assert len(opened) == 1


def test_the_nearest_names_win(tmp_path: Path):
    experiment = tmp_path / "mlruns" / "0"
    database(tmp_path / "mlflow.db", [("far", 1, f"models:/{FIRST}", None)], [(FIRST, "far")])
    database(experiment / "mlflow.db", [("near", 1, f"models:/{FIRST}", None)], [(FIRST, "near")])
    names = Registry().names(str(experiment))
    assert (names.registered[FIRST], names.logged[FIRST]) == ("near v1", "near")


@pytest.mark.parametrize("number", ["m-123", "m-" + "A" * 32, "M-" + "a" * 32, "a" * 31, "a" * 33])
def test_directories_that_only_look_like_theirs(tmp_path: Path, number: str):
    put(tmp_path / "0" / "models" / number / "artifacts" / "model.onnx")
    assert outcomes(tmp_path) == {f"0/models/{number}/artifacts/model.onnx": "model"}
