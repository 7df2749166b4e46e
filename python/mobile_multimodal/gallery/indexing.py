"""Brings files into an index: unchanged ones are skipped, known bytes are not embedded again, batches are commits."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from mobile_multimodal.errors import InvalidImageError, InvalidInputError, MobileMultiModalError
from mobile_multimodal.gallery.embedder import Embedder, checked_vector
from mobile_multimodal.gallery.files import FileState, PictureFile, read_picture, state_of
from mobile_multimodal.gallery.store import Store
from mobile_multimodal.gallery.vectors import MAX_WIDTH, quantize
from mobile_multimodal.images import Pixels, load_image

Outcome: TypeAlias = Literal["added", "changed", "moved", "copy", "unchanged"]
ResultCallback: TypeAlias = "Callable[[Path, Outcome | MobileMultiModalError], None]"

BATCH_PICTURES: Final = 64  # a commit costs a few milliseconds, a picture about 15: at most a second of work is lost
_PICTURES_AHEAD: Final = 2  # read and decoded while the core works on the one before; each may hold 256 MiB


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What became of the files that were given.

    added      new pictures
    changed    known paths with new bytes
    moved      known bytes at a new path, whose old path is gone
    copies     known bytes at one more path
    unchanged  same size and time as in the index: not read
    removed    paths taken out because their file is gone
    failures   files that are no picture or cannot be read, and why; of the former the index forgets what it held
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    copies: int = 0
    unchanged: int = 0
    removed: int = 0
    failures: tuple[tuple[Path, MobileMultiModalError], ...] = ()
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        failures = [
            {"path": str(path), "type": type(error).__name__, "message": error.message, "hint": error.hint}
            for path, error in self.failures
        ]
        return {**vars(self), "failures": failures}


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A file that was read ahead; `pixels` is None where the index knows its bytes."""

    file: PictureFile
    pixels: Pixels | None


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row of the next commit; `vector` is None where the bytes were known when they were read."""

    path: Path
    file: PictureFile
    vector: tuple[float, bytes] | None


class Indexer:
    """One run over files. The index is written between pictures only, never while one is embedded."""

    def __init__(self, store: Store, root: Path, embedder: Embedder, on_result: ResultCallback | None) -> None:
        self._store = store
        self._root = root
        self._embedder = embedder
        self._on_result = on_result
        self._counts: Counter[str] = Counter()
        self._failures: list[tuple[Path, MobileMultiModalError]] = []
        self._batch: list[_Row] = []
        self._gone: list[Path] = []  # paths whose file is no picture any more
        self._vectors: dict[bytes, tuple[float, bytes]] = {}  # of the batch, by hash

    def run(self, paths: Sequence[Path]) -> IndexReport:
        """Indexes the files in their order. What is done when an exception ends it, Ctrl-C for example, is kept."""
        start = time.monotonic()
        try:
            for path, future in self._prepared(paths):
                self._take(path, future)
                if len(self._batch) + len(self._gone) >= BATCH_PICTURES:
                    self._commit()
        finally:
            self._commit()
        return IndexReport(
            added=self._counts["added"],
            changed=self._counts["changed"],
            moved=self._counts["moved"],
            copies=self._counts["copy"],
            unchanged=self._counts["unchanged"],
            failures=tuple(self._failures),
            seconds=time.monotonic() - start,
        )

    def _prepared(self, paths: Sequence[Path]) -> Iterator[tuple[Path, Future[_Prepared]]]:
        """Files that have changed, read ahead."""
        ahead: deque[tuple[Path, Future[_Prepared]]] = deque()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mobile-mm-read") as reader:
            try:
                for path in paths:
                    if self._known_state(path) == state_of(path) is not None:
                        self._tell(path, "unchanged")
                        continue
                    ahead.append((path, reader.submit(self._read, path)))
                    if len(ahead) > _PICTURES_AHEAD:
                        yield ahead.popleft()
                while ahead:
                    yield ahead.popleft()
            finally:
                for _, future in ahead:
                    future.cancel()

    def _read(self, path: Path) -> _Prepared:
        file = read_picture(path)
        if self._is_known(file.sha256):
            return _Prepared(file=file, pixels=None)
        try:
            return _Prepared(file=file, pixels=load_image(file.data, model_side=self._embedder.image_size))
        except MobileMultiModalError as error:
            message = error.message.replace("the picture in memory", f"file {str(path)!r}", 1)
            raise type(error)(message, error.hint) from error

    def _take(self, path: Path, future: Future[_Prepared]) -> None:
        try:
            prepared = future.result()
        except MobileMultiModalError as error:
            self._failures.append((path, error))
            if isinstance(error, InvalidImageError):  # a file that cannot be read today may still be what it was
                self._gone.append(path)
            if self._on_result is not None:
                self._on_result(path, error)
            return
        vector = self._vectors.get(prepared.file.sha256)
        if vector is None and prepared.pixels is not None:
            vector = self._vectors[prepared.file.sha256] = self._embed(prepared.pixels)
        self._batch.append(_Row(path=path, file=prepared.file, vector=vector))

    def _embed(self, pixels: Pixels) -> tuple[float, bytes]:
        vector = checked_vector(self._embedder.embed_image(pixels))
        width = self._store.setting("width")
        if width is None and len(vector) <= MAX_WIDTH:
            with self._store.writing() as connection:
                connection.execute("INSERT OR IGNORE INTO settings VALUES ('width', ?)", (len(vector),))
            width = self._store.setting("width")
        if len(vector) != width:
            raise InvalidInputError(
                f"the model gives vectors of {len(vector)} numbers, expected {width or f'at most {MAX_WIDTH}'}",
                "use the model that made the index",
            )
        return quantize(vector)

    def _commit(self) -> None:
        if not self._batch and not self._gone:
            return
        batch, gone, lost = self._batch, self._gone, []
        outcomes: list[tuple[Path, Outcome]] = []
        with self._store.writing() as connection:
            for path in gone:
                remove_path(connection, self._name(path))
            for row in batch:
                outcome = self._write(connection, row)
                if outcome is None:
                    lost.append(row.path)
                else:
                    outcomes.append((row.path, outcome))
        self._batch, self._gone, self._vectors = [], [], {}
        for path, outcome in outcomes:
            self._tell(path, outcome)
        if lost:  # another process took these bytes out after we had found them known
            for path, future in self._prepared(lost):
                self._take(path, future)
            self._commit()

    def _write(self, connection: sqlite3.Connection, row: _Row) -> Outcome | None:
        name = self._name(row.path)
        known = connection.execute("SELECT id FROM contents WHERE sha256 = ?", (row.file.sha256,)).fetchone()
        if known is None and row.vector is None:
            return None
        before = connection.execute("SELECT content FROM pictures WHERE path = ?", (name,)).fetchone()
        outcome: Outcome = "added" if before is None else "changed"
        if known is None:
            assert row.vector is not None
            cursor = connection.execute(
                "INSERT INTO contents (sha256, scale, codes) VALUES (?, ?, ?)", (row.file.sha256, *row.vector)
            )
            content = cursor.lastrowid
        else:
            content = known[0]
            if before is not None and before[0] == content:
                outcome = "unchanged"  # written again with the same bytes
            elif before is None:
                outcome = "moved" if self._forget_old_paths(connection, content) else "copy"
        connection.execute(
            "INSERT INTO pictures VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET content = excluded.content, "
            "bytes = excluded.bytes, mtime_ns = excluded.mtime_ns, taken = excluded.taken",
            (name, content, row.file.state.bytes, row.file.state.mtime_ns, row.file.taken),
        )
        if before is not None and before[0] != content:
            remove_unused_content(connection, before[0])
        return outcome

    def _forget_old_paths(self, connection: sqlite3.Connection, content: int) -> bool:
        rows = connection.execute("SELECT path FROM pictures WHERE content = ?", (content,)).fetchall()
        gone = [name for (name,) in rows if state_of(self._root / os.fsdecode(name)) is None]
        connection.executemany("DELETE FROM pictures WHERE path = ?", [(name,) for name in gone])
        return bool(gone)

    def _known_state(self, path: Path) -> FileState | None:
        with self._store.reading() as connection:
            row = connection.execute(
                "SELECT bytes, mtime_ns FROM pictures WHERE path = ?", (self._name(path),)
            ).fetchone()
        return None if row is None else FileState(bytes=row[0], mtime_ns=row[1])

    def _is_known(self, sha256: bytes) -> bool:
        with self._store.reading() as connection:
            row = connection.execute("SELECT 1 FROM contents WHERE sha256 = ?", (sha256,)).fetchone()
        return row is not None

    def _name(self, path: Path) -> bytes:
        return os.fsencode(path.relative_to(self._root))

    def _tell(self, path: Path, outcome: Outcome) -> None:
        self._counts[outcome] += 1
        if self._on_result is not None:
            self._on_result(path, outcome)


def remove_path(connection: sqlite3.Connection, name: bytes) -> bool:
    """Takes a path out, and its content where no other path holds it; False where the path is unknown."""
    row = connection.execute("SELECT content FROM pictures WHERE path = ?", (name,)).fetchone()
    if row is None:
        return False
    connection.execute("DELETE FROM pictures WHERE path = ?", (name,))
    remove_unused_content(connection, row[0])
    return True


def remove_unused_content(connection: sqlite3.Connection, content: int) -> None:
    """Takes a content out that belongs to no path."""
    connection.execute(
        "DELETE FROM contents WHERE id = ? AND NOT EXISTS (SELECT 1 FROM pictures WHERE content = contents.id)",
        (content,),
    )
