"""Keeps paths, hashes and vectors in one SQLite file: a commit is whole or not there, and readers never wait."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from mobile_multimodal.errors import (
    DeadlineExceededError,
    GalleryFormatError,
    InvalidInputError,
    NotFoundError,
    UnsupportedError,
)

INDEX_NAME: Final = ".mobile-mm.gallery"
APPLICATION_ID: Final = 0x6D6D4741  # "mmGA": tells our files from other SQLite files
FORMAT_VERSION: Final = 1
BUSY_SECONDS: Final = 30.0  # writers hold the lock for a batch of rows, some milliseconds

# A content is a file's bytes, embedded once however many paths hold them. Ids grow and never return: a reader that
# knows all contents up to an id reads on from there. Paths are bytes below the root, because file names are.
SCHEMA: Final = (
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE contents (id INTEGER PRIMARY KEY AUTOINCREMENT, sha256 BLOB NOT NULL UNIQUE, "
    "scale REAL NOT NULL, codes BLOB NOT NULL)",
    "CREATE TABLE pictures (path BLOB PRIMARY KEY, content INTEGER NOT NULL REFERENCES contents (id), "
    "bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, taken TEXT NOT NULL) WITHOUT ROWID",
    "CREATE INDEX pictures_by_content ON pictures (content)",
    "CREATE INDEX pictures_by_taken ON pictures (taken, content)",
)
_SEQUENCE_TABLE: Final = "CREATE TABLE sqlite_sequence(name,seq)"  # SQLite makes it for AUTOINCREMENT


class Store:
    """One connection to an index; the threads of a process take turns, a transaction each."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        """Opens an index; with `writable`, makes it where there is none.

        Raises NotFoundError, GalleryFormatError, InvalidInputError (cannot be read or written).
        """
        self.path = path
        self._process = os.getpid()
        self._lock = threading.RLock()
        if not writable and not path.is_file():
            raise NotFoundError(f"there is no index {str(path)!r}", "make one: `mobile-mm index FOLDER`")
        if path.is_dir():
            raise InvalidInputError(f"index {str(path)!r} is a folder, expected a file", "name a file in it")
        with self._translated():
            self._connection = self._connect(writable)
            try:
                self._check(writable)
            except BaseException:
                self._connection.close()
                raise

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, in the process that opened it."""
        if os.getpid() != self._process:
            raise UnsupportedError(
                f"the gallery was opened in process {self._process} and is used in its fork {os.getpid()}",
                "open the gallery in the process that uses it",
            )
        return self._connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot for all that is read inside."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All that is written inside, and the counter that tells readers; or nothing, when an exception leaves it."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection
            connection.execute("UPDATE settings SET value = value + 1 WHERE name = 'commits'")

    def setting(self, name: str) -> Any:
        """The value of a setting, or None."""
        with self._lock, self._translated():
            row = self.connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def file_bytes(self) -> int:
        """Size of the index with its log."""
        files = (self.path, Path(f"{self.path}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Ends the connection; a writer that is the last one to leave also empties the log beside the index."""
        with self._lock:
            self._connection.close()

    def damaged(self, what: str) -> GalleryFormatError:
        """The error for an index that does not hold what it must."""
        return GalleryFormatError(
            f"index {str(self.path)!r} is damaged: {what}", "delete it and run `mobile-mm index` again"
        )

    def _connect(self, writable: bool) -> sqlite3.Connection:
        address = f"file:{quote(os.fsencode(self.path.absolute()))}?mode={'rwc' if writable else 'ro'}"
        if not writable and not os.access(self.path.absolute().parent, os.W_OK):
            # A reader of a write-ahead log makes a file beside the index, unless it is told that nothing will change.
            log = Path(f"{self.path}-wal")
            if not log.exists() or log.stat().st_size == 0:
                address += "&immutable=1"
        return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    def _check(self, writable: bool) -> None:
        execute = self._connection.execute
        execute("PRAGMA trusted_schema = OFF")
        execute("PRAGMA cell_size_check = ON")
        if writable and execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            self._create()
        application, version = (execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if application == 0 and execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            raise NotFoundError(f"index {str(self.path)!r} is empty", "make it: `mobile-mm index FOLDER`")
        if application != APPLICATION_ID:
            raise GalleryFormatError(
                f"file {str(self.path)!r} is a database, but no index of pictures", "name another file with --index"
            )
        if version != FORMAT_VERSION:
            raise GalleryFormatError(
                f"index {str(self.path)!r} has version {version}, expected {FORMAT_VERSION}",
                "delete it and run `mobile-mm index` again",
            )
        # A view or trigger would run whatever its author wrote.
        found = {sql for (sql,) in execute("SELECT sql FROM sqlite_master") if sql is not None}
        if found != {*SCHEMA, _SEQUENCE_TABLE}:
            raise self.damaged("its tables are not those of an index")
        if writable:
            execute("PRAGMA journal_mode = WAL")
            execute("PRAGMA synchronous = FULL")  # a commit outlives a loss of power too

    def _create(self) -> None:
        # The mode is changed before the tables exist: a process that dies in between leaves a file that is empty.
        self._connection.execute("PRAGMA journal_mode = WAL")
        with self._transaction("BEGIN IMMEDIATE") as connection:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return  # another process was faster
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO settings VALUES ('commits', 0)")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        connection = self.connection
        with self._lock, self._translated():
            connection.execute(begin)
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns what SQLite raises into an error that names the index and the next step."""
        name = f"index {str(self.path)!r}"
        try:
            yield
        except sqlite3.OperationalError as error:
            if re.search(r"locked|busy", str(error)):
                raise DeadlineExceededError(
                    f"another process kept {name} locked for {BUSY_SECONDS:g} seconds", "try again when it is done"
                ) from error
            if re.search(r"no such|malformed", str(error)):
                raise self.damaged(str(error)) from error
            raise InvalidInputError(
                f"{name} cannot be read or written: {error}",
                "check the path, its permissions and the space left, or name another file with --index",
            ) from error
        except (sqlite3.DatabaseError, sqlite3.InterfaceError, UnicodeDecodeError) as error:
            if "not a database" in str(error):
                raise GalleryFormatError(
                    f"file {str(self.path)!r} is no index of pictures", "name another file with --index"
                ) from error
            raise self.damaged(str(error)) from error
