"""Packs weight codes into the 64-byte tiles of core/src/quant/layout.h, and stores matrices with their instruction.

A tile is 16 rows x 32/bits columns. Byte (row * 4 + j) holds, in bit plane p, the code of column 4 * p + j of the tile.
Tiles follow each other along the columns first. Rows and columns are padded to 16 with code 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile.program import ProgramBuilder, Value
from mobile_multimodal.compile.weight_codes import QuantizedMatrix
from mobile_multimodal.errors import InvalidInputError

TILE_ROWS = 16
TILE_BYTES = 64
COLUMN_STEP = 16
MAX_COLUMNS = 32768  # 2 * 255 * 127 * 32768 < 2^31 keeps the core's int32 sums exact
SUPPORTED_BITS = (2, 4, 8)


def round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def tile_columns(bits: int) -> int:
    """Columns of a tile: 16, 8, 4 for 2, 4, 8 bits."""
    if bits not in SUPPORTED_BITS:
        raise InvalidInputError(f"weights of {bits} bits cannot be packed", hint="choose 2, 4 or 8 bits.")
    return 32 // bits


def pack_codes(codes: NDArray[np.uint8], bits: int) -> NDArray[np.int8]:
    """Codes [n, k] -> tiles [n_tiles, k_tiles, 64]."""
    columns = tile_columns(bits)
    if codes.ndim != 2 or codes.size == 0 or codes.shape[1] > MAX_COLUMNS:
        raise InvalidInputError(
            f"codes have shape {codes.shape}, expected [n, k] with 1..{MAX_COLUMNS} columns",
            hint="split a wider matrix by columns.",
        )
    if int(codes.max()) >= 1 << bits:
        raise InvalidInputError(f"code {int(codes.max())} does not fit {bits} bits", hint="codes start at 0.")
    n, k = codes.shape
    padded = np.zeros((round_up(n, TILE_ROWS), round_up(k, COLUMN_STEP)), dtype=np.uint8)
    padded[:n, :k] = codes
    planes = 8 // bits
    # [n_tiles, row, k_tiles, plane, j] -> [n_tiles, k_tiles, row, j, plane]
    tiles = padded.reshape(-1, TILE_ROWS, padded.shape[1] // columns, planes, 4).transpose(0, 2, 1, 4, 3)
    shifts = np.arange(planes, dtype=np.uint8) * np.uint8(bits)
    packed = np.bitwise_or.reduce(tiles << shifts, axis=-1)
    return np.ascontiguousarray(packed.reshape(packed.shape[0], packed.shape[1], TILE_BYTES)).view(np.int8)


def unpack_codes(packed: NDArray[np.int8], bits: int, n: int, k: int) -> NDArray[np.uint8]:
    """The inverse of pack_codes: tiles [n_tiles, k_tiles, 64] -> codes [n, k]."""
    columns = tile_columns(bits)
    expected = (round_up(n, TILE_ROWS) // TILE_ROWS, round_up(k, COLUMN_STEP) // columns, TILE_BYTES)
    if packed.shape != expected:
        raise InvalidInputError(f"tiles have shape {packed.shape}, expected {expected}", hint="check bits, n and k.")
    planes = 8 // bits
    shifts = np.arange(planes, dtype=np.uint8) * np.uint8(bits)
    rows = packed.view(np.uint8).reshape(expected[0], expected[1], TILE_ROWS, 4)
    codes = (rows[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    matrix = codes.transpose(0, 2, 1, 4, 3).reshape(expected[0] * TILE_ROWS, expected[1] * columns)
    return np.ascontiguousarray(matrix[:n, :k])


def stored_matrix(packed: NDArray[np.int8], bits: int, scale: NDArray[np.float32], k: int) -> QuantizedMatrix:
    """A matrix back from what `matrix_tensors` stored; it has a row for each scale, and k columns."""
    zero2 = 256 if bits == 8 else (1 << bits) - 1
    return QuantizedMatrix(unpack_codes(packed, bits, len(scale), k), scale.astype(np.float32), bits, zero2)


def linear(
    builder: ProgramBuilder,
    name: str,
    x: Value,
    weight: NDArray[np.float32] | QuantizedMatrix,
    *,
    bias: NDArray[np.float32] | None = None,
    residual: Value | None = None,
    activation: int = 0,
) -> Value:
    """Appends x W^T as `linear` (quantized weight) or `linear_f32` (float weight [n, k]) and stores its tensors."""
    offset = None if bias is None else builder.tensor(f"{name}.bias", bias.astype(np.float32))
    if not isinstance(weight, QuantizedMatrix):
        table = builder.tensor(f"{name}.weight", np.ascontiguousarray(weight.T, dtype=np.float32))
        return builder.apply("linear_f32", [x, table, offset, residual], [activation])
    packed, scale = matrix_tensors(builder, name, weight)
    attributes = [weight.bits, weight.n, weight.k, weight.zero2, activation]
    return builder.apply("linear", [x, packed, scale, offset, residual], attributes)


def linear_codes(
    builder: ProgramBuilder, name: str, x: Value, weight: QuantizedMatrix, bias: NDArray[np.float32] | None
) -> Value:
    """Appends clamp(round(x W^T + bias), 0, 127) as codes; scales and bias are in units of them."""
    packed, scale = matrix_tensors(builder, name, weight)
    offset = None if bias is None else builder.tensor(f"{name}.bias", bias)
    return builder.apply("linear_codes", [x, packed, scale, offset], [weight.bits, weight.n, weight.k, weight.zero2])


def linear_pair(
    builder: ProgramBuilder,
    names: tuple[str, str],
    x: Value,
    weights: tuple[QuantizedMatrix, QuantizedMatrix],
    biases: tuple[NDArray[np.float32] | None, NDArray[np.float32] | None],
    activations: tuple[int, int],
    *,
    has_residual: bool = False,
    gate: Value | None = None,
) -> Value:
    """Appends act(act(x W1^T + b1) W2^T + b2), plus x with has_residual; with a gate x is multiplied by it first."""
    first, second = weights
    tensors = [
        tensor for name, matrix in zip(names, weights, strict=True) for tensor in matrix_tensors(builder, name, matrix)
    ]
    offsets = [
        None if bias is None else builder.tensor(f"{name}.bias", bias.astype(np.float32))
        for name, bias in zip(names, biases, strict=True)
    ]
    attributes = [first.k, first.n, second.n]
    for matrix, activation in zip(weights, activations, strict=True):
        attributes += [matrix.bits, matrix.zero2, activation]
    return builder.apply("linear_pair", [x, *tensors, *offsets, gate], [*attributes, int(has_residual)])


def embedding_rows(
    builder: ProgramBuilder, name: str, tokens: Value, table: NDArray[np.float32] | QuantizedMatrix
) -> Value:
    """Appends the rows of a table that may also be the output head: low bits share one tensor with `linear`, floats
    need both orders."""
    if isinstance(table, QuantizedMatrix):
        packed, scale = matrix_tensors(builder, name, table)
        return builder.apply("embedding", [tokens, packed, scale], [table.bits, table.n, table.k, table.zero2])
    return builder.apply("embedding_f32", [tokens, builder.tensor(f"{name}.table", table)])


def matrix_tensors(builder: ProgramBuilder, name: str, matrix: QuantizedMatrix) -> tuple[Value, Value]:
    """Stores a quantized matrix as NAME.w<bits> and NAME.scale."""
    packed = builder.tensor(f"{name}.w{matrix.bits}", pack_codes(matrix.codes, matrix.bits))
    return packed, builder.tensor(f"{name}.scale", matrix.scale.astype(np.float32))
