"""Rounds value rows so that what the first token of a text gives comes out exact.

Attention that looks for nothing rests on the first token, whose value is near zero although its activations are the
largest of all (attention sinks, Xiao et al. 2023, arXiv 2309.17453; massive activations, Sun et al. 2024, arXiv
2402.17762). Whatever rounding adds to that value is added to every later row. The first token's activations need no
attention to compute, and hardly depend on the token: so a few codes of each value row are moved to their second nearest
level, until the errors cancel in that direction.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile.llama_gguf import LlamaWeights
from mobile_multimodal.compile.weight_codes import QuantizedMatrix

_TOKENS: Final = 32  # spread over the vocabulary


def first_token_inputs(weights: LlamaWeights) -> list[NDArray[np.float32]]:
    """For each layer, the mean input of `qkv` [width] at position 0, normed and weighted, before any turn."""
    shape = weights.shape
    x = weights.embedding()[np.linspace(0, shape.vocabulary - 1, _TOKENS, dtype=np.int64)].astype(np.float32)
    group = shape.heads // shape.kv_heads

    def norm(name: str) -> NDArray[np.float32]:
        scale = np.sqrt(np.square(x).mean(axis=1, keepdims=True) + shape.norm_eps)
        return np.asarray(x / scale * weights.norm(name), dtype=np.float32)

    inputs = []
    for layer in range(shape.layers):
        h = norm(f"blk.{layer}.attn_norm")
        inputs.append(h.mean(axis=0))
        # A token that is alone attends to itself: the mixture is its value, and position 0 turns nothing.
        values = h @ weights.qkv(layer)[(shape.heads + shape.kv_heads) * shape.head_dim :].T
        mixed = np.repeat(values.reshape(-1, shape.kv_heads, 1, shape.head_dim), group, axis=2).reshape(len(x), -1)
        x = x + mixed @ weights.attention_out(layer).T
        gate, up = np.split(norm(f"blk.{layer}.ffn_norm") @ weights.gate_up(layer).T, 2, axis=1)
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights.down(layer).T
    return inputs


def cancel_errors(
    matrix: QuantizedMatrix, weight: NDArray[np.float32], direction: NDArray[np.float32], first_row: int
) -> QuantizedMatrix:
    """Moves codes of the rows from first_row on, so that their errors along `direction` cancel.

    matrix: codes of `weight` [n, k]. A code moves to the level on the other side of its weight, those first that gain
    most for what they cost; a row is left when no move brings its error nearer to zero.
    """
    codes = matrix.codes.copy()
    top = (1 << matrix.bits) - 1
    enough = 0.002 * float(np.linalg.norm(direction))  # of a level: a hundredth of what rounding leaves
    for row in range(first_row, len(codes)):
        steps = weight[row] / matrix.scale[row] + matrix.zero2 / 2 - codes[row]  # how far the weight lies, in levels
        move = np.where(steps > 0, 1, -1)
        target = codes[row].astype(np.int64) + move
        gain = move * direction
        error = float(-(steps @ direction))
        cost = (1 - 2 * np.abs(steps)) / np.maximum(np.abs(gain), 1e-12)
        is_useful = (gain * error < 0) & (target >= 0) & (target <= top) & (np.abs(steps) <= 1)
        places = np.flatnonzero(is_useful)
        for column in places[np.argsort(cost[places])].tolist():
            gained = error + float(gain[column])
            if abs(gained) < abs(error):
                codes[row, column] = target[column]
                error = gained
            if abs(error) < enough:
                break
    return QuantizedMatrix(codes, matrix.scale, matrix.bits, matrix.zero2)
