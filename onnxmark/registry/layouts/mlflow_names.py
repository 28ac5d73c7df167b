"""The names MLflow gives to models, read without MLflow: from ``mlflow.db``, or from the YAML files of a file store.

Both belong to whoever filled the registry, so they are read as data of a stranger: the database as an unchanging file
(``immutable``: no lock, no journal, no write), with a bound on the work of a query, because a table may be a view that
never ends; of YAML only the one line that is needed. What cannot be read leaves models under their numbers.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from onnxmark.errors import ModelError
from onnxmark.model.source import Source
from onnxmark.registry.layouts.layout import parent

_LEVELS: Final = 3
"""From an experiment's directory up to the one that holds ``mlruns`` and, beside it, the database."""
_MOST_STEPS: Final = 50_000_000
"""Instructions of SQLite's machine for one query: about a second."""
_STEPS: Final = 10_000
_MOST_BYTES: Final = 1 << 16
_LOGGED: Final = re.compile(r"(?:^|/)(m-[0-9a-f]{32})(?:/|$)")
_RUN: Final = re.compile(r"(?:^|/)([0-9a-f]{32})/artifacts/(.+)$|^runs:/([0-9a-f]{32})/(.+)$")
_LINE: Final = re.compile(r"^(source|storage_location): *(\S.*?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Names:
    """What MLflow calls its models.

    Args:
        registered: ``resnet v3`` by the number of a logged model, or by ``<run>/<path of the artifact>``.
        logged: The name a model was logged under, by its number. Several may share one.
    """

    registered: dict[str, str] = field(default_factory=dict)
    logged: dict[str, str] = field(default_factory=dict)


def nameless(directory: str) -> Names:
    """No names: for a store whose database is out of reach."""
    return Names()


class Registry:
    """The names of all stores met on a walk, each read once."""

    def __init__(self) -> None:
        self._read: dict[str, Names] = {}
        self._experiments: dict[str, Names] = {}

    def names(self, experiment: str) -> Names:
        """The names in what lies in an experiment's directory, or up to two levels above; the nearest come first."""
        known = self._experiments.get(experiment)
        if known is None:
            near = [self._in(parent(experiment, level)) for level in range(_LEVELS)]
            known = self._experiments[experiment] = Names(
                {key: title for one in reversed(near) for key, title in one.registered.items()},
                {key: name for one in reversed(near) for key, name in one.logged.items()},
            )
        return known

    def _in(self, directory: str) -> Names:
        if directory not in self._read:
            self._read[directory] = _read(Path(directory))
        return self._read[directory]


def _read(directory: Path) -> Names:
    versions, logged = _database(directory / "mlflow.db")
    titles: dict[str, list[tuple[str, int]]] = {}
    for name, version, places in (*versions, *_files(directory / "models")):
        for key in dict.fromkeys(filter(None, map(_key, places))):
            titles.setdefault(key, []).append((name, version))
    registered = {
        key: " and ".join(f"{name} v{version}" for name, version in sorted(set(given))) for key, given in titles.items()
    }
    return Names(registered, dict(logged))


def _key(place: str) -> str | None:
    """What a version's source or storage location points at: ``models:/m-…``, ``runs:/…`` or a path or URL."""
    logged = _LOGGED.search(place)
    if logged:
        return logged[1]
    run = _RUN.search(place.rstrip("/"))
    return run and (f"{run[1]}/{run[2]}" if run[1] else f"{run[3]}/{run[4]}")


_Version = tuple[str, int, list[str]]


def _database(path: Path) -> tuple[list[_Version], list[tuple[str, str]]]:
    try:
        # SQLite would wait for ever on a pipe of this name.
        if not stat.S_ISREG(path.lstat().st_mode):
            return [], []
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            return _versions(database), _logged(database)
    except (OSError, ValueError, sqlite3.Error):
        return [], []


def _rows(database: sqlite3.Connection, query: str) -> Iterator[dict[str, object]]:
    """The rows of a query that may fail: tables and columns came and went with MLflow's versions."""
    ticks = iter(range(_MOST_STEPS // _STEPS))
    database.set_progress_handler(lambda: next(ticks, None) is None, _STEPS)
    database.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
    database.execute("PRAGMA trusted_schema = OFF")
    try:
        cursor = database.execute(query)
        columns = [column[0] for column in cursor.description]
        yield from (dict(zip(columns, row, strict=True)) for row in cursor)
    except sqlite3.Error:
        return


def _versions(database: sqlite3.Connection) -> list[_Version]:
    found = []
    for row in _rows(database, "SELECT * FROM model_versions"):
        name, version = row.get("name"), row.get("version")
        if isinstance(name, str) and isinstance(version, int):
            places = [row.get("source"), row.get("storage_location")]
            found.append((name, version, [place for place in places if isinstance(place, str)]))
    return found


def _logged(database: sqlite3.Connection) -> list[tuple[str, str]]:
    rows = _rows(database, "SELECT model_id, name FROM logged_models")
    return [(str(row["model_id"]), row["name"]) for row in rows if isinstance(row["name"], str)]


def _files(models: Path) -> Iterator[_Version]:
    """The versions of a file store: ``models/<name>/version-<number>/meta.yaml``."""
    for model in _directories(models):
        for version in _directories(model):
            number = version.name.removeprefix("version-")
            if number != version.name and number.isascii() and number.isdigit() and len(number) < 19:
                yield model.name, int(number), list(_places(version / "meta.yaml"))


def _directories(path: Path) -> Iterable[Path]:
    try:
        with os.scandir(path) as listing:
            return sorted(Path(entry.path) for entry in listing if entry.is_dir(follow_symlinks=False))
    except OSError:
        return ()


def _places(meta: Path) -> Iterator[str]:
    """The lines that say where the model is. A value YAML had to quote or to wrap is not a path MLflow would write."""
    try:
        with Source(meta) as source:
            text = source.upto(0, _MOST_BYTES).decode("utf-8", "backslashreplace")
    except ModelError:
        return
    for _, value in _LINE.findall(text):
        yield value.strip("'\"")
