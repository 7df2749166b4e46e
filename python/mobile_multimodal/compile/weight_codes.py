"""Turns float weight rows into codes: value = scale[row] * (code - zero2 / 2).

8 bits: symmetric around code 128. 2 and 4 bits: stretched elastic quantization (ParetoQ, arXiv 2502.02631), 2^bits
balanced levels without a zero (-1.5 -0.5 0.5 1.5 at two bits). The training kit trains on the same grids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import InvalidInputError

FLOAT_BITS = 32
# A weight this near to the outer edge (in steps) still belongs to the outer level: floor(2 - 2^-10) is 1.
_EDGE_STEPS = np.float32(2.0**-10)
_SMALLEST_SCALE = np.float32(1e-12)


@dataclass(frozen=True)
class QuantizedMatrix:
    """value = scale[row] * (code - zero2 / 2) for codes [n, k] of `bits` bits."""

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    bits: int
    zero2: int

    @property
    def n(self) -> int:
        return int(self.codes.shape[0])

    @property
    def k(self) -> int:
        return int(self.codes.shape[1])

    def dequantized(self) -> NDArray[np.float32]:
        """The values [n, k] that the codes stand for."""
        levels = self.codes.astype(np.float32) - np.float32(self.zero2 / 2)
        return np.asarray(levels * self.scale[:, None], dtype=np.float32)


Weight = NDArray[np.float32] | QuantizedMatrix


def quantize(weight: NDArray[np.float32], bits: int, scale: NDArray[np.float32] | None = None) -> Weight:
    """Codes of 2, 4 or 8 bits for weights [n, k]; 32 bits keep the floats.

    scale: the trained scale per row of 2 and 4 bits; without it the one of least squared error is taken.
    """
    if not np.isfinite(weight).all():
        raise InvalidInputError(f"weights of shape {weight.shape} hold NaN or infinity", hint="check the training run.")
    if bits == FLOAT_BITS:
        return weight.astype(np.float32)
    if bits == 8:
        return symmetric_codes(weight)
    if bits in (2, 4):
        return balanced_codes(weight, bits, balanced_scale(weight, bits) if scale is None else scale.reshape(-1))
    raise InvalidInputError(f"weights of {bits} bits were asked for", hint="choose 2, 4, 8 or 32 (float).")


def first_rows(weight: Weight, count: int) -> Weight:
    """The first rows of a matrix: rows are independent of each other in every form."""
    if not isinstance(weight, QuantizedMatrix):
        return weight[:count]
    return QuantizedMatrix(weight.codes[:count], weight.scale[:count], weight.bits, weight.zero2)


def symmetric_codes(weight: NDArray[np.float32]) -> QuantizedMatrix:
    """8 bits: round(w / s) + 128 with s = max|w| / 127 per row."""
    weight = weight.astype(np.float32)
    scale = np.maximum(np.abs(weight).max(axis=1) / np.float32(127), _SMALLEST_SCALE)
    levels = np.clip(np.rint(weight / scale[:, None]), -127, 127)
    return QuantizedMatrix((levels + 128).astype(np.uint8), scale, bits=8, zero2=256)


def balanced_codes(weight: NDArray[np.float32], bits: int, scale: NDArray[np.float32]) -> QuantizedMatrix:
    """2 or 4 bits: floor(w / s) clipped to the grid, shifted to start at 0."""
    half = np.float32(1 << (bits - 1))
    steps = weight.astype(np.float32) / scale.astype(np.float32)[:, None]
    codes = np.floor(np.clip(steps, -half + _EDGE_STEPS, half - _EDGE_STEPS)) + half
    return QuantizedMatrix(codes.astype(np.uint8), scale.astype(np.float32), bits=bits, zero2=(1 << bits) - 1)


def balanced_scale(weight: NDArray[np.float32], bits: int, candidates: int = 40) -> NDArray[np.float32]:
    """The scale per row of least squared error among fractions 0.15..1 of max|w| on the outer level."""
    # Rows are independent: blocks of 128 KiB stay in a core's cache through all candidates.
    rows = max(1, (1 << 15) // weight.shape[1])
    blocks = [_best_scale(weight[at : at + rows], bits, candidates) for at in range(0, len(weight), rows)]
    return np.concatenate(blocks)


def _best_scale(weight: NDArray[np.float32], bits: int, candidates: int) -> NDArray[np.float32]:
    outer = np.float32(((1 << bits) - 1) / 2)
    largest = np.maximum(np.abs(weight).max(axis=1), _SMALLEST_SCALE).astype(np.float32) / outer
    best, best_error = largest, np.full(len(largest), np.inf)
    for fraction in np.linspace(0.15, 1.0, candidates, dtype=np.float32):
        scale = largest * fraction
        error = np.square(balanced_codes(weight, bits, scale).dequantized() - weight).sum(axis=1, dtype=np.float64)
        best = np.where(error < best_error, scale, best)
        best_error = np.minimum(error, best_error)
    return best.astype(np.float32)
