"""Turns the directions in which a Llama model computes, so that no channel stands out where rows are rounded to int8.

In SmolLM2-135M a few channels are 16 times the mean, and one scale a row gives the others a few steps only. The same
function in turned coordinates has none (QuaRot, Ashkboos et al. 2024, arXiv 2404.00456): the residual stream x becomes
x Q with an orthogonal Q, which RMS norm without weights does not notice; values and what reads them turn head by head;
the rows before `down` pass the operation `hadamard`. All but that is folded into the weights.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile.llama_gguf import LlamaShape, LlamaWeights

_MOST_BLOCK: Final = 4096
_SEED: Final = 2404


class RotatedWeights:
    """The matrices of a model in turned coordinates; its norms have no weights any more, but the last of a tied head.

    Where embedding and head share one table, `head_turn` [width, width] stands between the last norm and the table.
    """

    def __init__(self, weights: LlamaWeights) -> None:
        self._weights = weights
        self.shape: LlamaShape = weights.shape
        self.has_own_head = weights.has_own_head
        signs = np.random.default_rng(_SEED).choice(np.array([-1.0, 1.0]), self.shape.width)
        self._turn = (signs[:, None] * orthogonal(self.shape.width)).astype(np.float32)
        self._head_turn = orthogonal(self.shape.head_dim).astype(np.float32)
        self.down_block = largest_block(self.shape.ffn)

    def embedding(self) -> NDArray[np.float32]:
        return _f32(self._weights.embedding() @ self._turn)

    def head(self) -> NDArray[np.float32]:
        return _f32((self._weights.head() * self._weights.norm("output_norm")) @ self._turn)

    def head_turn(self) -> NDArray[np.float32]:
        """[n, k] as `linear` takes it: logits = (norm(x) weight) E^T = norm(x Q) (Q^T weight Q) (E Q)^T."""
        return _f32(self._turn.T @ (self._weights.norm("output_norm")[:, None] * self._turn))

    def qkv(self, layer: int) -> NDArray[np.float32]:
        shape = self.shape
        rows = _f32((self._weights.qkv(layer) * self._weights.norm(f"blk.{layer}.attn_norm")) @ self._turn)
        first_value = (shape.heads + shape.kv_heads) * shape.head_dim
        values = rows[first_value:].reshape(shape.kv_heads, shape.head_dim, shape.width)
        rows[first_value:] = (self._head_turn.T @ values).reshape(-1, shape.width)
        return rows

    def attention_out(self, layer: int) -> NDArray[np.float32]:
        by_head = self._weights.attention_out(layer).reshape(self.shape.width, self.shape.heads, self.shape.head_dim)
        return _f32(self._turn.T @ (by_head @ self._head_turn).reshape(self.shape.width, -1))

    def gate_up(self, layer: int) -> NDArray[np.float32]:
        return _f32((self._weights.gate_up(layer) * self._weights.norm(f"blk.{layer}.ffn_norm")) @ self._turn)

    def down(self, layer: int) -> NDArray[np.float32]:
        rows = _f32(self._turn.T @ self._weights.down(layer))
        if self.down_block > 1:
            blocks = rows.reshape(self.shape.width, -1, self.down_block) @ hadamard(self.down_block).astype(np.float32)
            rows = _f32(blocks.reshape(self.shape.width, self.shape.ffn))
        return rows


def _f32(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def largest_block(columns: int) -> int:
    """The largest power of two that divides the columns, at most 4096."""
    return min(columns & -columns, _MOST_BLOCK)


def orthogonal(size: int) -> NDArray[np.float64]:
    """An orthogonal matrix of small entries alone: Hadamard's for the even part of the size, Hartley's for the rest.

    Hartley's holds the sums of cosine and sine of the Fourier angles.
    """
    block = size & -size
    odd = np.arange(size // block)
    angles = 2 * np.pi * np.outer(odd, odd) / len(odd)
    return np.kron((np.cos(angles) + np.sin(angles)) / np.sqrt(len(odd)), hadamard(block))


def hadamard(size: int) -> NDArray[np.float64]:
    """Sylvester's matrix of a power of two, divided by the root of its size: symmetric, its own inverse."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / np.sqrt(size)
