"""Offers the pictures of a folder as one object: indexed on disk, found by words or by a picture."""

from __future__ import annotations

import datetime
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobile_multimodal.errors import InvalidInputError, NotFoundError, UnsupportedError
from mobile_multimodal.gallery.embedder import Embedder, Vector, checked_vector
from mobile_multimodal.gallery.files import find_pictures, state_of
from mobile_multimodal.gallery.graph import EXACT_LIMIT, NeighbourGraph, extend_graph
from mobile_multimodal.gallery.indexing import BATCH_PICTURES, Indexer, IndexReport, ResultCallback, remove_path
from mobile_multimodal.gallery.searching import GalleryHit, SearchOptions, SearchSettings
from mobile_multimodal.gallery.store import INDEX_NAME, Store
from mobile_multimodal.gallery.vectors import LoadedVectors
from mobile_multimodal.images import ImageSource
from mobile_multimodal.model.identity import EmbeddingIdentity
from mobile_multimodal.settings import settings_from

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


@dataclass(frozen=True, kw_only=True)
class GalleryStatus:
    """What an index holds.

    pictures  paths
    contents  different pictures: copies count once
    model     what made the vectors
    """

    index: str
    folder: str
    pictures: int
    contents: int
    model: str
    width: int
    commits: int
    file_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON."""
        return asdict(self)


class Gallery:
    """The pictures below a folder. All methods may be called from any thread.

    One process writes at a time, any number read; a search sees every commit that was made before it began.
    """

    def __init__(self, store: Store, root: Path, embedder: Embedder | None, *, writable: bool) -> None:
        self._store = store
        self._root = root
        self._embedder = embedder
        self._writable = writable
        self._lock = threading.RLock()
        self._vectors: LoadedVectors | None = None
        self._graph: NeighbourGraph | None = None
        self._graph_digest: object = None
        self._last_mask: tuple[object, npt.NDArray[np.bool_]] | None = None

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        embedder: Embedder,
        *,
        index: str | os.PathLike[str] | None = None,
    ) -> Self:
        """The gallery of a folder, for writing; an index that is there already is opened.

        index  its file; by default `.mobile-mm.gallery` in the folder, which may then be moved with all that is in it
        Raises NotFoundError (no such folder), GalleryFormatError, InvalidInputError (the index belongs to another
        folder or model, or cannot be written).
        """
        root = Path(folder)
        if not root.is_dir():
            raise NotFoundError(f"folder {str(folder)!r} does not exist", "name the folder of your pictures")
        root = root.resolve()
        path = (root / INDEX_NAME) if index is None else Path(index).absolute()
        store = Store(path, writable=True)
        try:
            _claim(store, _root_setting(root, path), embedder.get_embedding_identity())
            stored = _root_of(store)
            if stored != root:
                raise InvalidInputError(
                    f"index {str(path)!r} belongs to folder {str(stored)!r}, expected {str(root)!r}",
                    "name another index",
                )
            _check_model(store, embedder)
        except BaseException:
            store.close()
            raise
        return cls(store, root, embedder, writable=True)

    @classmethod
    def open(cls, index: str | os.PathLike[str], embedder: Embedder | None = None, *, writable: bool = False) -> Self:
        """An index that exists, by its file or the folder that it lies in.

        embedder  the model that made it: needed to search; without it the gallery can be listed
        Raises NotFoundError, GalleryFormatError, InvalidInputError (the index belongs to another model).
        """
        path = Path(index)
        if path.is_dir():
            path = path / INDEX_NAME
        if not path.is_file():
            raise NotFoundError(f"there is no index {str(path)!r}", "make one: `mobile-mm index FOLDER`")
        store = Store(path.absolute(), writable=writable)
        try:
            root = _root_of(store)
            if embedder is not None:
                _check_model(store, embedder)
        except BaseException:
            store.close()
            raise
        return cls(store, root, embedder, writable=writable)

    @property
    def folder(self) -> Path:
        """The folder that the pictures are below."""
        return self._root

    def add(self, paths: Iterable[str | os.PathLike[str]], *, on_result: ResultCallback | None = None) -> IndexReport:
        """Brings these files into the index, or up to date; a file that fails is reported and the others go on.

        on_result  called with a path and "added", "changed", "moved", "copy", "unchanged" or an error, when it is so:
                   in the index, for the first four
        Every 64 pictures are a commit: what an interruption loses is done again by the next call.
        """
        inside = [self._inside(path) for path in paths]
        return Indexer(self._writer(), self._root, self._need_embedder(), on_result).run(inside)

    def update(
        self,
        *,
        remove: bool = False,
        on_start: Callable[[int], None] | None = None,
        on_result: ResultCallback | None = None,
    ) -> IndexReport:
        """Brings the index up to date with the folder; with `remove`, paths whose file is gone are taken out.

        on_start  called with the number of files, before the first of them
        """
        found, unreadable = find_pictures(self._root)
        if on_start is not None:
            on_start(len(found) + len(unreadable))
        for path, error in unreadable:
            if on_result is not None:
                on_result(path, error)
        report = self.add(found, on_result=on_result)
        removed = self.remove_missing() if remove else 0
        return IndexReport(**{**vars(report), "removed": removed, "failures": (*unreadable, *report.failures)})

    def remove(self, paths: Iterable[str | os.PathLike[str]]) -> int:
        """Takes paths out of the index, not from the disk; gives how many were in it."""
        return self._remove([os.fsencode(self._inside(path).relative_to(self._root)) for path in paths])

    def remove_missing(self) -> int:
        """Takes out every path whose file is gone; gives how many.

        Refused while the folder itself is gone: a drive that is not mounted would empty the index.
        """
        if not self._root.is_dir():
            raise NotFoundError(
                f"folder {str(self._root)!r} does not exist, so its pictures cannot be looked for", "mount its drive"
            )
        with self._store.reading() as connection:
            names = [name for (name,) in connection.execute("SELECT path FROM pictures")]
        return self._remove([name for name in names if state_of(self._path(name)) is None])

    def extend_graph(self) -> int:
        """Brings the graph of neighbours up to date, for over 100,000 pictures; gives how many were new.

        Needs the extra `gallery`. Without a graph every vector is looked at, which takes about 2 ms for 100,000.
        """
        store = self._writer()
        return extend_graph(store) if self.status().contents > EXACT_LIMIT else 0

    def search_text(self, text: str, **options: Unpack[SearchOptions]) -> list[GalleryHit]:
        """The pictures nearest to a text, best first.

        options  k, folder, since, until: see SearchSettings
        """
        settings = settings_from(SearchSettings, options)
        if not isinstance(text, str) or not text.strip():
            raise InvalidInputError(f"the text to search for is {text!r}, expected words", "for example 'a dog'")
        return self.search_vector(self._need_embedder().embed_text(text), settings)

    def search_picture(self, image: ImageSource, **options: Unpack[SearchOptions]) -> list[GalleryHit]:
        """The pictures nearest to a picture, best first; the picture itself, where it is in the gallery.

        image    as in `generate_caption`
        options  k, folder, since, until: see SearchSettings
        """
        settings = settings_from(SearchSettings, options)
        return self.search_vector(self._need_embedder().embed_image(image), settings)

    def search_vector(self, vector: Vector, settings: SearchSettings | None = None) -> list[GalleryHit]:
        """The pictures nearest to a unit vector of the model's space, best first."""
        settings = SearchSettings() if settings is None else settings
        query = checked_vector(vector)
        folder = None if settings.folder is None else self._folder_name(settings.folder)
        with self._lock, self._store.reading() as connection:
            vectors = self._refreshed(connection)
            if vectors is None:
                return []
            if len(query) != vectors.width:
                raise InvalidInputError(
                    f"the query has {len(query)} numbers, expected {vectors.width}", "use the model that made the index"
                )
            condition, values = _filter_of(folder, settings)
            rows, scores = self._nearest(connection, vectors, query, settings.k, condition, values)
            return self._hits(connection, vectors, rows, scores, condition, values)

    def status(self) -> GalleryStatus:
        """What the index holds now."""
        with self._store.reading() as connection:
            pictures = connection.execute("SELECT count(*) FROM pictures").fetchone()[0]
            contents = connection.execute("SELECT count(*) FROM contents").fetchone()[0]
            settings = dict(connection.execute("SELECT name, value FROM settings").fetchall())
        return GalleryStatus(
            index=str(self._store.path),
            folder=str(self._root),
            pictures=pictures,
            contents=contents,
            model=str(settings.get("model_name", "")),
            width=int(settings.get("width", 0)),
            commits=int(settings.get("commits", 0)),
            file_bytes=self._store.file_bytes(),
        )

    def paths(self) -> list[Path]:
        """Every path in the index, in the order of names."""
        with self._store.reading() as connection:
            names = connection.execute("SELECT path FROM pictures ORDER BY path").fetchall()
        return [self._path(name) for (name,) in names]

    def find(self, name: bytes) -> Path | None:
        """The path of a picture by its name below the folder, as bytes; None for a file that is not in the index."""
        with self._store.reading() as connection:
            found = connection.execute("SELECT path FROM pictures WHERE path = ?", (name,)).fetchone()
        return None if found is None else self._path(found[0])

    def __len__(self) -> int:
        return self.status().pictures

    def close(self) -> None:
        """Closes the index; what was committed stays."""
        with self._lock:
            self._vectors = self._graph = self._last_mask = None
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Gallery {str(self._root)!r}>"

    def _refreshed(self, connection: sqlite3.Connection) -> LoadedVectors | None:
        width = connection.execute("SELECT value FROM settings WHERE name = 'width'").fetchone()
        if width is None:
            return None  # nothing was ever added
        if self._vectors is None:
            if not isinstance(width[0], int) or not 1 <= width[0] <= 4096:
                raise self._store.damaged(f"its vectors are {width[0]!r} wide")
            self._vectors = LoadedVectors(width[0])
        self._vectors.refresh(connection, self._store)
        return self._vectors

    def _nearest(
        self,
        connection: sqlite3.Connection,
        vectors: LoadedVectors,
        query: Vector,
        k: int,
        condition: str,
        values: list[Any],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Rows and scores of the k best contents with a picture that meets the condition."""
        if condition:
            key = (vectors.commits, condition, tuple(values))
            if self._last_mask is None or self._last_mask[0] != key:
                found = connection.execute(f"SELECT content FROM pictures WHERE {condition}", values)
                self._last_mask = key, vectors.mask_of(np.fromiter((row[0] for row in found), dtype=np.int64))
            return vectors.table.search(query, k, allowed=self._last_mask[1])
        allowed = None if vectors.all_alive else vectors.alive
        graph = self._current_graph() if len(vectors.table) > EXACT_LIMIT else None
        if graph is None:
            return vectors.table.search(query, k, allowed=allowed)
        rows = vectors.rows_of(graph.candidates(query, k))
        rows = rows[vectors.alive[rows]]
        scores = vectors.table.score(query, rows)
        newer = int(np.searchsorted(vectors.ids, graph.last, side="right"))
        tail_rows, tail_scores = vectors.table.search(query, k, allowed=allowed, row_begin=newer)
        rows, scores = np.concatenate([rows, tail_rows]), np.concatenate([scores, tail_scores])
        best = np.lexsort((rows, -scores))[:k]
        return rows[best], scores[best]

    def _current_graph(self) -> NeighbourGraph | None:
        digest = self._store.setting("graph_sha256")
        if digest != self._graph_digest:
            self._graph, self._graph_digest = NeighbourGraph.load(self._store), digest
        return self._graph

    def _hits(
        self,
        connection: sqlite3.Connection,
        vectors: LoadedVectors,
        rows: npt.NDArray[np.int64],
        scores: npt.NDArray[np.float32],
        condition: str,
        values: list[Any],
    ) -> list[GalleryHit]:
        hits = []
        query = "SELECT path, taken FROM pictures WHERE content = ?" + (f" AND {condition}" if condition else "")
        for content, score in zip(vectors.ids[rows].tolist(), scores.tolist(), strict=True):
            found = connection.execute(f"{query} ORDER BY path", [content, *values]).fetchall()
            if not found:
                raise self._store.damaged(f"content {content} belongs to no picture")
            try:
                taken = datetime.datetime.fromisoformat(found[0][1])
            except (TypeError, ValueError) as error:
                raise self._store.damaged(f"a picture was taken at {found[0][1]!r}") from error
            paths = [self._path(name) for name, _ in found]
            score = min(max(score, -1.0), 1.0)  # rounding may carry a cosine past its ends
            hits.append(GalleryHit(path=paths[0], score=score, taken=taken, copies=tuple(paths[1:])))
        return hits

    def _remove(self, names: list[bytes]) -> int:
        removed = 0
        store = self._writer()
        for begin in range(0, len(names), BATCH_PICTURES):
            with store.writing() as connection:
                removed += sum(remove_path(connection, name) for name in names[begin : begin + BATCH_PICTURES])
        return removed

    def _path(self, name: object) -> Path:
        """The file of a stored name; a hostile index must not lead out of its folder."""
        if not isinstance(name, bytes) or not name or b"\0" in name:
            raise self._store.damaged(f"a path is {name!r}")
        relative = PurePath(os.fsdecode(name))
        if relative.is_absolute() or ".." in relative.parts:
            raise self._store.damaged(f"path {name!r} leads out of its folder")
        return self._root / relative

    def _inside(self, path: str | os.PathLike[str]) -> Path:
        """The path below the folder, links in it unresolved: relative paths are relative to the working folder."""
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 (resolve() would follow a link to a file)
        if absolute.is_relative_to(self._root):
            return absolute
        resolved = absolute.parent.resolve() / absolute.name  # the folder may have been named through a link
        if resolved.is_relative_to(self._root):
            return resolved
        raise InvalidInputError(
            f"file {os.fspath(path)!r} is not below the gallery's folder {str(self._root)!r}",
            "move it there, or make a gallery of its own folder",
        )

    def _folder_name(self, folder: str | os.PathLike[str]) -> bytes:
        path = Path(folder)
        absolute = self._inside(path if path.is_absolute() else self._root / path)
        return os.fsencode(absolute.relative_to(self._root))

    def _need_embedder(self) -> Embedder:
        if self._embedder is None:
            raise UnsupportedError("the gallery was opened without a model", "pass the model that made the index")
        return self._embedder

    def _writer(self) -> Store:
        if not self._writable:
            raise UnsupportedError("the gallery was opened for reading", "open it with writable=True")
        return self._store


def _filter_of(folder: bytes | None, settings: SearchSettings) -> tuple[str, list[Any]]:
    """An SQL condition on `pictures` and its values; empty where everything is looked at."""
    conditions: list[str] = []
    values: list[Any] = []
    if folder is not None and folder != b".":
        conditions.append("path >= ? AND path < ?")
        values += [folder + b"/", folder + b"0"]  # 0 is the character behind /
    first, last = settings.days()
    if first is not None:
        conditions.append("taken >= ?")
        values.append(first.isoformat())
    if last is not None:
        conditions.append("taken < ?")
        values.append(f"{last.isoformat()}U")  # U is behind T: every time of that day
    return " AND ".join(conditions), values


def _claim(store: Store, root: bytes, identity: EmbeddingIdentity) -> None:
    """Writes folder and model into an index that has none; an index without a vector may change its model."""
    if store.setting("root") is not None and store.setting("model_digest") == identity.digest:
        return
    with store.writing() as connection:
        connection.execute("INSERT OR IGNORE INTO settings VALUES ('root', ?)", (root,))
        if connection.execute("SELECT 1 FROM contents LIMIT 1").fetchone() is None:
            connection.execute("DELETE FROM settings WHERE name IN ('model_digest', 'model_name', 'width')")
            connection.executemany(
                "INSERT INTO settings VALUES (?, ?)",
                [("model_digest", identity.digest), ("model_name", identity.name)],
            )


def _root_setting(root: Path, index: Path) -> bytes:
    """Relative to the index where it lies inside, so that both can be moved together."""
    folder = index.parent.resolve()
    return os.fsencode(os.path.relpath(root, folder) if folder.is_relative_to(root) else root)


def _root_of(store: Store) -> Path:
    value = store.setting("root")
    if value is None:  # whoever made it was stopped before it had begun
        raise NotFoundError(f"index {str(store.path)!r} is empty", "make it: `mobile-mm index FOLDER`")
    if not isinstance(value, bytes) or not value or b"\0" in value:
        raise store.damaged(f"its folder is {value!r}")
    return (store.path.parent.resolve() / os.fsdecode(value)).resolve()


def _check_model(store: Store, embedder: Embedder) -> None:
    identity = embedder.get_embedding_identity()
    stored = store.setting("model_digest")
    if stored != identity.digest:
        raise InvalidInputError(
            f"index {str(store.path)!r} was made with {store.setting('model_name')!r} (embeddings {str(stored)[:12]}), "
            f"not with {identity.name!r} ({identity.digest[:12]}): their vectors cannot be compared",
            "use that model, or delete the index and run `mobile-mm index` again",
        )
