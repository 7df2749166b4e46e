"""Rounds vectors to int8, and follows the vectors of an index in memory."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mobile_multimodal import native
from mobile_multimodal.gallery.embedder import Vector
from mobile_multimodal.gallery.store import Store

Ids = npt.NDArray[np.int64]

MAX_WIDTH: Final = 4096
_LARGEST_CODE: Final = 127
_ROWS_AT_ONCE: Final = 4096  # as many rows of Python objects, about 2 MB, exist while an index is loaded
_MOST_DEAD: Final = 0.25  # of all rows; beyond, the vectors are loaded again


def quantize(vector: Vector) -> tuple[float, bytes]:
    """(scale, codes): scale * code is as long as the vector, so that the cosine of a vector with itself is 1.

    The codes are the elements in steps of max|vector| / 127, rounded: each is at most half a step off.
    """
    step = np.abs(vector).max() / _LARGEST_CODE
    if step == 0:
        return 0.0, bytes(len(vector))
    codes = np.rint(vector / step).clip(-_LARGEST_CODE, _LARGEST_CODE)
    return float(np.linalg.norm(vector) / np.linalg.norm(codes)), codes.astype(np.int8).tobytes()


class LoadedVectors:
    """The vectors of an index up to its last commit; `refresh` reads what came since."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._clear()

    def _clear(self) -> None:
        self.table = native.VectorTable(self.width)
        self.ids: Ids = np.zeros(0, dtype=np.int64)  # of the rows of the table, ascending
        self.alive: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self.commits = -1

    @property
    def all_alive(self) -> bool:
        """Whether every row still belongs to a picture."""
        return bool(self.alive.all())

    def refresh(self, connection: sqlite3.Connection, store: Store) -> None:
        """Brings the table to the snapshot of `connection`."""
        commits = connection.execute("SELECT value FROM settings WHERE name = 'commits'").fetchone()
        if commits is None:
            raise store.damaged("it does not count its commits")
        if commits[0] == self.commits:
            return
        self._append_new(connection, store)
        self._mark_dead(connection)
        if len(self.ids) and np.count_nonzero(self.alive) < (1 - _MOST_DEAD) * len(self.ids):
            self._clear()
            self._append_new(connection, store)
            self._mark_dead(connection)
        self.commits = commits[0]

    def rows_of(self, ids: Ids) -> npt.NDArray[np.int64]:
        """The rows of those of the ids that are loaded."""
        rows = np.searchsorted(self.ids, ids)
        is_inside = rows < len(self.ids)
        rows = rows[is_inside]
        found: Ids = rows[self.ids[rows] == ids[is_inside]]
        return found

    def mask_of(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """True at the rows of these ids."""
        mask = np.zeros(len(self.ids), dtype=np.bool_)
        mask[self.rows_of(ids)] = True
        return mask

    def _append_new(self, connection: sqlite3.Connection, store: Store) -> None:
        last = int(self.ids[-1]) if len(self.ids) else -1
        query = "SELECT id, scale, CASE length(codes) WHEN ? THEN codes END FROM contents WHERE id > ? ORDER BY id"
        cursor = connection.execute(query, (self.width, last))  # a vector of another length is not even read
        new = [self.ids]
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            ids, scales, codes = zip(*rows, strict=True)
            self._check(codes, scales, store)
            matrix = np.frombuffer(b"".join(codes), dtype=np.int8).reshape(len(rows), self.width)
            self.table.append(matrix, np.asarray(scales, dtype=np.float32))
            new.append(np.asarray(ids, dtype=np.int64))
        self.ids = np.concatenate(new)

    def _check(self, codes: tuple[Any, ...], scales: tuple[Any, ...], store: Store) -> None:
        if not all(isinstance(entry, bytes) and len(entry) == self.width for entry in codes):
            raise store.damaged(f"a vector is not {self.width} bytes long")
        values = np.asarray([scale if isinstance(scale, float) else -1.0 for scale in scales])
        if not ((values >= 0) & (values < 1e30)).all():
            raise store.damaged("the scale of a vector is no finite number from 0 on")

    def _mark_dead(self, connection: sqlite3.Connection) -> None:
        # What was read last is all that lives, and more where something was taken out since it was read.
        if connection.execute("SELECT count(*) FROM contents").fetchone()[0] == len(self.ids):
            self.alive = np.ones(len(self.ids), dtype=np.bool_)
        else:
            living = connection.execute("SELECT id FROM contents")
            self.alive = self.mask_of(np.fromiter((row[0] for row in living), dtype=np.int64))
