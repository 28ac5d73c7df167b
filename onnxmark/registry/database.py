"""An SQLite file that one process writes, and that whatever befalls it is one error line.

Write-ahead logging lets others watch while a scan writes, and survives ``kill -9`` at any moment. ``synchronous`` is
NORMAL: a process that dies loses nothing that was committed; when the power fails the last commits may be missing, but
the file is whole, and what is missing is merely done again. FULL would buy those commits with a flush of the disk for
each chunk of models.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from onnxmark.errors import JournalError

APPLICATION: Final = 0x6F6D6A31
"""Marks an SQLite file as one of ours, in its header."""
VERSION: Final = 1
LOCK: Final = ".lock"
"""Suffix of the file whose lock says that a scan is writing.

SQLite's own locks would shut out those who watch, and are lost when any other handle on the file is closed. The lock is
the process's: it ends with it, however it ends. The file stays, since removing it would race with the next scan.
"""

_CURE: Final = {
    sqlite3.SQLITE_FULL: "free some space and run the same command again: what is done is kept",
    sqlite3.SQLITE_IOERR: "see that the disk is sound and not full, and run the same command again",
    sqlite3.SQLITE_READONLY: "choose a place that can be written with --db",
    sqlite3.SQLITE_CANTOPEN: "choose a place that can be read and written with --db",
    sqlite3.SQLITE_NOTADB: "it is no journal; choose another file with --db",
    sqlite3.SQLITE_CORRUPT: "it is damaged; remove it to start anew, or restore a copy",
    sqlite3.SQLITE_BUSY: "another program holds it; wait for it, or choose another file with --db",
    sqlite3.SQLITE_LOCKED: "another program holds it; wait for it, or choose another file with --db",
}


@contextmanager
def typed(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a journal into one line that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        # The low byte is the kind of error, the others tell its occasions apart. Old bindings' own errors have none.
        cure = _CURE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "remove it to start anew")
        raise JournalError(f"journal {str(path)!r}: {error}; {cure}") from error


@contextmanager
def writing(path: Path, schema: str) -> Iterator[sqlite3.Connection]:
    """A journal open for writing by this process alone; made if it is not there.

    Args:
        path: The file.
        schema: Statements that make its tables.

    Raises:
        JournalError: It cannot be written, another scan is writing it, it is damaged or something else.
    """
    with _locked(path), typed(path), _connection(f"file:{quote(os.fsencode(path))}?mode=rwc") as connection:
        _check(connection, path, schema)
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        # File systems without shared memory keep the rollback journal, which is only safe when it is flushed.
        connection.execute(f"PRAGMA synchronous={'NORMAL' if mode == 'wal' else 'FULL'}")
        try:
            yield connection
        finally:
            # A journal at rest is one file that can be copied, and read where nothing can be written. Watchers or a
            # full disk may prevent that; then its log stays beside it.
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA journal_mode=DELETE")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A journal open for reading, also while a scan is writing it.

    Raises:
        JournalError: There is none, it is damaged or something else.
    """
    _regular(path)
    if not path.exists():
        raise JournalError(f"journal {str(path)!r}: there is no such file; name the journal of a scan")
    with typed(path), _connection(f"file:{quote(os.fsencode(path))}?mode=ro") as connection:
        _check(connection, path, None)
        yield connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, whatever happens in between."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _connection(uri: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10.0)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    _regular(path)
    beside = path.with_name(path.name + LOCK)
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise JournalError(
            f"journal {str(path)!r}: {str(beside)!r} cannot be made ({error.strerror}); "
            "choose a place that can be written with --db"
        ) from error
    try:
        _take(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise JournalError(
            f"journal {str(path)!r}: another scan is writing it ({error.strerror}); "
            "wait for it, or choose another file with --db"
        ) from error


def _regular(path: Path) -> None:
    """Refuse what would block, or be overwritten by mistake."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise JournalError(f"journal {str(path)!r}: {error}; choose another place with --db") from error
    if not stat.S_ISREG(mode):
        raise JournalError(f"journal {str(path)!r}: is no regular file; choose another place with --db")


def _check(connection: sqlite3.Connection, path: Path, schema: str | None) -> None:
    """See that the file is a whole journal of ours; an empty one becomes it."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0] == 0
    if application == 0 and empty and schema is not None:
        _make(connection, schema)
        return
    if application != APPLICATION:
        raise JournalError(f"journal {str(path)!r}: is the database of another program; choose another file with --db")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise JournalError(
            f"journal {str(path)!r}: is written in version {version}, this tool writes {VERSION}; "
            "remove it to start anew, or use the tool that wrote it"
        )
    damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if damage != "ok":
        raise JournalError(f"journal {str(path)!r}: is damaged ({damage!r}); remove it to start anew")


def _make(connection: sqlite3.Connection, schema: str) -> None:
    with transaction(connection):
        for statement in schema.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={VERSION}")
