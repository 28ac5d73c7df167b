"""What a scan has done so far, so that it can be killed at any moment and go on where it was.

Only the coordinator writes. A result is used again if it was made on the same terms and neither the model nor the data
beside it has changed since; what failed is tried again, since the failure may have been the machine's. Results of other
terms are kept: a mistyped folder of keys must not cost the hours that went into the right one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from onnxmark.errors import JournalError
from onnxmark.registry.changes import content, stamped, unchanged
from onnxmark.registry.database import reading, transaction, typed, writing
from onnxmark.registry.entries import Found
from onnxmark.registry.rows import AUDITED, COLUMNS, COMPANIONS, Result, Row, Tally, row_of, stored, values
from onnxmark.registry.terms import Shard, Terms

__all__ = ["AUDITED", "COMPANIONS", "Journal", "Result", "Row", "Tally", "open_journal", "read_journal"]

_SCHEMA: Final = """
CREATE TABLE scans (
  id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, terms TEXT NOT NULL, generation INTEGER NOT NULL,
  roots TEXT NOT NULL, shards TEXT NOT NULL, complete INTEGER NOT NULL, latest INTEGER NOT NULL
) STRICT;
CREATE TABLE entries (
  scan INTEGER NOT NULL REFERENCES scans, generation INTEGER NOT NULL, checksum INTEGER NOT NULL,
  identity ANY NOT NULL, location ANY NOT NULL, layout TEXT NOT NULL, outcome TEXT NOT NULL, size INTEGER NOT NULL,
  reason ANY, stamp TEXT, evidence TEXT, status TEXT, companions TEXT, result TEXT, UNIQUE (scan, identity, location)
) STRICT
"""
_PUT: Final = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Journal:
    """The journal of one scan; made by :func:`open_journal` or :func:`read_journal`.

    Args:
        path: The file.
        connection: To it.
        scan: Number of the scan in it.
        digest: Tell a model by the SHA-256 of its content instead of its size, time and inode.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, scan: int, *, digest: bool = False) -> None:
        self.path = path
        self._connection = connection
        self._scan = scan
        self._digest = digest

    @property
    def terms(self) -> Terms:
        """On what terms its results were made."""
        try:
            return Terms.parse(self._about("terms"))
        except ValueError as error:
            raise JournalError(f"journal {str(self.path)!r}: {error}; remove it to start anew") from error

    @property
    def roots(self) -> tuple[str, ...]:
        """What was scanned."""
        return tuple(self._json(self._about("roots")))

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Which shares of it."""
        return tuple(Shard.parse(text) for text in self._json(self._about("shards")))

    @property
    def complete(self) -> bool:
        """Whether the last run came to its end."""
        return bool(self._about("complete"))

    def begin(self, roots: Sequence[str], shards: Sequence[Shard] = (Shard(),)) -> None:
        """Start a run: what it does not come across again is no part of its outcome."""
        texts = json.dumps(list(roots)), json.dumps([str(shard) for shard in shards])
        with typed(self.path), transaction(self._connection):
            self._connection.execute(
                "UPDATE scans SET generation = generation + 1, complete = 0, roots = ?, shards = ?, "
                "latest = (SELECT MAX(latest) + 1 FROM scans) WHERE id = ?",
                (*texts, self._scan),
            )

    def finish(self) -> None:
        """End a run that has seen everything; results of models that are gone are dropped."""
        with typed(self.path), transaction(self._connection):
            self._connection.execute(
                "DELETE FROM entries WHERE scan = ? AND generation < (SELECT generation FROM scans WHERE id = ?)",
                (self._scan, self._scan),
            )
            self._connection.execute("UPDATE scans SET complete = 1 WHERE id = ?", (self._scan,))

    def evidence(self, found: Found) -> str | None:
        """What tells that a model's content has changed: to be taken before the model is read."""
        if self._digest:
            return content(Path(found.location))
        return None if found.stamp is None else stamped(found.stamp)

    def recall(self, found: Found, evidence: str | None) -> Row | None:
        """The result of an earlier run, if it still holds.

        Args:
            found: The model.
            evidence: Its present one.
        """
        with typed(self.path):
            row = self._connection.execute(
                f"SELECT {COLUMNS} FROM entries WHERE scan = ? AND identity = ? AND location = ? "  # noqa: S608
                "AND status = ? AND evidence = ?",
                (self._scan, stored(found.identity), stored(found.location), AUDITED, evidence),
            ).fetchone()
        if row is None:
            return None
        kept = self._row(row)
        beside = () if kept.result is None else kept.result.get(COMPANIONS, ())
        return replace(kept, found=found) if all(map(unchanged, beside)) else None

    def put(self, rows: Iterable[Row]) -> None:
        """Write some entries, all or none."""
        with typed(self.path), transaction(self._connection):
            generation = self._about("generation")
            self._connection.executemany(_PUT, ((self._scan, generation, *values(row)) for row in rows))

    def rows(self) -> Iterator[Row]:
        """What the last run came across, in the order of names."""
        with typed(self.path):
            cursor = self._connection.execute(
                f"SELECT {COLUMNS} FROM entries WHERE scan = ? "  # noqa: S608
                "AND generation = (SELECT generation FROM scans WHERE id = ?) ORDER BY identity, location",
                (self._scan, self._scan),
            )
            for row in cursor:
                yield self._row(row)

    def tally(self) -> Tally:
        """How far the last run came."""
        with typed(self.path):
            counts = self._connection.execute(
                "SELECT outcome, status, COUNT(*), SUM(size) FROM entries WHERE scan = ? "
                "AND generation = (SELECT generation FROM scans WHERE id = ?) GROUP BY outcome, status",
                (self._scan, self._scan),
            ).fetchall()
        tally = Tally()
        for outcome, status, n, n_bytes in counts:
            tally = tally.plus(outcome, status, n=n, n_bytes=n_bytes)
        return tally

    def _about(self, column: str) -> Any:
        with typed(self.path):
            return self._connection.execute(f"SELECT {column} FROM scans WHERE id = ?", (self._scan,)).fetchone()[0]  # noqa: S608

    def _row(self, kept: tuple[Any, ...]) -> Row:
        try:
            return row_of(kept)
        except ValueError as error:
            raise self._torn(error) from error

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._torn(error) from error

    def _torn(self, why: object) -> JournalError:
        return JournalError(f"journal {str(self.path)!r}: is damaged ({why}); remove it to start anew")


@contextmanager
def open_journal(path: Path, terms: Terms, *, digest: bool = False) -> Iterator[Journal]:
    """The journal of a scan on these terms, for the one process that writes it.

    Args:
        path: An SQLite file, made if it is not there; it may hold scans on other terms.
        terms: What shapes the results.
        digest: Tell models by the SHA-256 of their content: slower by one reading, and right where times are not kept.

    Raises:
        JournalError: It cannot be written, another scan is writing it, it is damaged or something else.
    """
    with writing(path, _SCHEMA) as connection:
        with transaction(connection):
            connection.execute(
                "INSERT OR IGNORE INTO scans (fingerprint, terms, generation, roots, shards, complete, latest) "
                "VALUES (?, ?, 0, '[]', '[]', 0, 0)",
                (terms.fingerprint, terms.text),
            )
        yield Journal(path, connection, _number(connection, path, terms), digest=digest)


@contextmanager
def read_journal(path: Path, terms: Terms | None = None) -> Iterator[Journal]:
    """A journal for those who watch or merge, also while its scan is running.

    Args:
        path: The file.
        terms: Of the scan wanted, where it holds several; without them, the one begun last.

    Raises:
        JournalError: There is none, or it holds no such scan.
    """
    with reading(path) as connection:
        yield Journal(path, connection, _number(connection, path, terms))


def _number(connection: sqlite3.Connection, path: Path, terms: Terms | None) -> int:
    wanted = "%" if terms is None else terms.fingerprint
    query = "SELECT id FROM scans WHERE fingerprint LIKE ? ORDER BY latest DESC LIMIT 1"
    scan = connection.execute(query, (wanted,)).fetchone()
    if scan is None:
        raise JournalError(f"journal {str(path)!r}: holds no scan with these keys and options; scan first")
    return int(scan[0])
