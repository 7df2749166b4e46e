"""Checks that two files hold the same weights: every row of a GGUF file's matrices is a row of ours, bit for bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import gguf
import numpy as np

from mobile_multimodal.compile.pack import stored_matrix, tile_columns

Rows = Counter[bytes]


def share_of_same_rows(ours: Path, theirs: Path) -> float:
    """1.0 when both hold the same rows: ours may stack matrices and order rows otherwise, columns it may not."""
    first, second = _our_rows(ours), _their_rows(theirs)
    return (first & second).total() / max(first.total(), second.total())


def _our_rows(file: Path) -> Rows:
    arrays = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(file).tensors}
    rows: Rows = Counter()
    for name, packed in arrays.items():
        base, _, kind = name.rpartition(".")
        if kind in ("w2", "w4", "w8"):
            bits = int(kind[1])
            matrix = stored_matrix(packed, bits, arrays[f"{base}.scale"], packed.shape[1] * tile_columns(bits))
            _count(rows, matrix.dequantized())
    return rows


def _their_rows(file: Path) -> Rows:
    rows: Rows = Counter()
    for tensor in gguf.GGUFReader(file).tensors:
        if len(tensor.shape) == 2:
            _count(rows, gguf.quants.dequantize(np.array(tensor.data), tensor.tensor_type))
    return rows


def _count(rows: Rows, matrix: np.ndarray) -> None:  # type: ignore[type-arg]
    rows.update(row.tobytes() for row in np.ascontiguousarray(matrix, dtype=np.float32))
