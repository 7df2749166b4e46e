"""Narrows a search of very many vectors to a few candidates, by a graph of neighbours (usearch) beside the index."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from mobile_multimodal.errors import MissingExtraError
from mobile_multimodal.gallery.embedder import Vector
from mobile_multimodal.gallery.store import Store
from mobile_multimodal.gallery.vectors import Ids

EXACT_LIMIT: Final = 100_000  # up to here every vector is looked at: about 2 ms, and nothing to build
GRAPH_SUFFIX: Final = ".usearch"
CANDIDATES_A_RESULT: Final = 4
LEAST_CANDIDATES: Final = 128
_ROWS_AT_ONCE: Final = 4096


def usearch_index_type() -> Any:
    """usearch's Index, or MissingExtraError."""
    try:
        from usearch.index import Index
    except ImportError as error:
        raise MissingExtraError(
            f"a graph of over {EXACT_LIMIT} pictures needs the package usearch, which is not installed",
            "pip install 'mobile-multimodal[gallery]'",
        ) from error
    return Index


class NeighbourGraph:
    """A graph over the contents up to the id `last`; newer ones are left to an exact search."""

    def __init__(self, index: Any, last: int) -> None:
        self._index = index
        self.last = last

    def __len__(self) -> int:
        return len(self._index)

    def candidates(self, query: Vector, k: int) -> Ids:
        """Ids of contents near the query, among them those that have been taken out since."""
        count = min(max(k * CANDIDATES_A_RESULT, LEAST_CANDIDATES), len(self._index))
        found = self._index.search(query, count)
        return np.sort(np.asarray(found.keys, dtype=np.int64))

    @classmethod
    def load(cls, store: Store) -> NeighbourGraph | None:
        """The graph that the index names; None where there is none, or another one than it names.

        usearch trusts the file that it maps, so the file must have the SHA-256 that the index holds.
        """
        path, last, digest = graph_path(store.path), store.setting("graph_last"), store.setting("graph_sha256")
        if not isinstance(last, int) or not isinstance(digest, bytes) or not path.is_file():
            return None
        try:
            index_type = usearch_index_type()
            with path.open("rb") as file:
                if _sha256(file) != digest:
                    return None
            return cls(index_type.restore(str(path), view=True), last)
        except (MissingExtraError, OSError, RuntimeError, ValueError):
            return None  # the exact search answers as well, only later


def extend_graph(store: Store, *, threads: int = 0) -> int:
    """Adds all contents that the graph lacks, making it where there is none; gives the number that was added.

    The new file replaces the old one in one step; until the index names it, searches stay exact.
    Raises MissingExtraError.
    """
    index_type = usearch_index_type()
    width = store.setting("width")
    known = NeighbourGraph.load(store)
    path = graph_path(store.path)
    if known is not None and len(known) and _share_of_dead(store, known) <= 0.25:
        index, last = index_type.restore(str(path), view=False), known.last
    else:
        index, last = index_type(ndim=width, metric="ip", dtype="f16", connectivity=16), -1
    added = 0
    while True:
        with store.reading() as connection:
            rows = connection.execute(
                "SELECT id, scale, codes FROM contents WHERE id > ? ORDER BY id LIMIT ?", (last, _ROWS_AT_ONCE)
            ).fetchall()
        if not rows:
            break
        ids, scales, codes = zip(*rows, strict=True)
        matrix = np.frombuffer(b"".join(codes), dtype=np.int8).reshape(len(rows), width)
        vectors = matrix.astype(np.float32) * np.asarray(scales, dtype=np.float32)[:, None]
        index.add(np.asarray(ids, dtype=np.uint64), vectors, threads=threads)
        last, added = ids[-1], added + len(rows)
    if added:
        _save(store, index, path, last)
    return added


def graph_path(index: Path) -> Path:
    """Where the graph of an index lies."""
    return index.with_name(index.name + GRAPH_SUFFIX)


def _share_of_dead(store: Store, graph: NeighbourGraph) -> float:
    with store.reading() as connection:
        living = connection.execute("SELECT count(*) FROM contents WHERE id <= ?", (graph.last,)).fetchone()[0]
    return 1 - float(living) / max(len(graph), 1)


def _save(store: Store, index: Any, path: Path, last: int) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        index.save(str(temporary))
        with temporary.open("rb") as file:
            digest = _sha256(file)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    with store.writing() as connection:
        connection.executemany(
            "INSERT INTO settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [("graph_last", last), ("graph_sha256", digest)],
        )


def _sha256(file: Any) -> bytes:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.digest()
