"""Builds the programs `prefill` and `decode` of a caption decoder, and the states they share.

`prefill` turns image features into every layer's cross-attention keys and values, once per picture; `decode` turns
tokens into logits, any number of rows at once (a prompt, or one row for each beam).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile.caption_checkpoint import CaptionCheckpoint, CaptionShape
from mobile_multimodal.compile.pack import embedding_rows, linear
from mobile_multimodal.compile.program import ProgramBuilder, State, TensorStore, Value
from mobile_multimodal.compile.weight_codes import Weight, first_rows
from mobile_multimodal.model.program import Program

SECTION = "decoder"


@dataclass(frozen=True)
class CaptionDecoder:
    """The programs and their states, in the order in which instructions number them."""

    prefill: Program
    decode: Program
    states: tuple[State, ...]


def build_caption_decoder(
    checkpoint: CaptionCheckpoint, tensors: TensorStore, vocabulary: int, *, bits_override: int | None = None
) -> CaptionDecoder:
    """Compiles a checkpoint.

    vocabulary: tokens of the tokenizer; logits beyond them (the trained table is padded to 16) are left out.
    bits_override: 32 for the float twin, 2, 4 or 8 to quantize every matrix anew.
    """
    shape = checkpoint.shape
    states: list[State] = []
    for index in range(shape.layers):
        states += [
            State(f"layers.{index}.key", "cache", shape.kv_width, shape.max_length),
            State(f"layers.{index}.value", "cache", shape.kv_width, shape.max_length),
            State(f"layers.{index}.memory", "memory", 2 * shape.kv_width, shape.memory_length),
        ]
    weights = _Weights(checkpoint, bits_override)
    prefill = _build_prefill(shape, weights, ProgramBuilder("prefill", tensors))
    decode = _build_decode(shape, vocabulary, weights, ProgramBuilder("decode", tensors))
    return CaptionDecoder(prefill, decode, tuple(states))


class _Weights:
    """Looks weights up and appends the instructions that use them; tensors are named `decoder.<parameter>`."""

    def __init__(self, checkpoint: CaptionCheckpoint, bits_override: int | None) -> None:
        self._checkpoint = checkpoint
        self._override = bits_override

    def matrix(self, name: str, n: int, k: int, bits: int) -> Weight:
        return self._checkpoint.matrix(name, n, k, bits, self._override)

    def linear(
        self, builder: ProgramBuilder, name: str, x: Value, n: int, k: int, bits: int, residual: Value | None = None
    ) -> Value:
        return linear(builder, f"{SECTION}.{name}", x, self.matrix(name, n, k, bits), residual=residual)

    def norm(self, builder: ProgramBuilder, name: str, x: Value, width: int, epsilon: float) -> Value:
        weight = self._checkpoint.vector(f"{name}.weight", width)
        return builder.apply("rms_norm", [x, builder.tensor(f"{SECTION}.{name}.weight", weight)], [epsilon])

    def array(self, name: str, rows: int, columns: int) -> NDArray[np.float32]:
        return self._checkpoint.array(name, rows, columns)


def _build_prefill(shape: CaptionShape, weights: _Weights, builder: ProgramBuilder) -> Program:
    features = builder.input("features", "f32")
    rows = builder.apply("reshape", [features], [-1, shape.memory_width])
    places = weights.array("memory.position", shape.memory_length, shape.width)
    position = builder.tensor(f"{SECTION}.memory.position", places)
    memory = weights.linear(
        builder, "memory.project", rows, shape.width, shape.memory_width, shape.memory_bits, residual=position
    )
    memory = weights.norm(builder, "memory.norm", memory, shape.width, shape.norm_eps)
    for index in range(shape.layers):
        name = f"layers.{index}.cross_kv"
        keys_values = weights.linear(builder, name, memory, 2 * shape.kv_width, shape.width, shape.bits)
        builder.emit("state_write", [keys_values], [_memory_state(index)])
    return builder.finish()


def _build_decode(shape: CaptionShape, vocabulary: int, weights: _Weights, builder: ProgramBuilder) -> Program:
    tokens = builder.input("tokens", "i32")
    positions = builder.input("positions", "i32")
    sequences = builder.input("sequences", "i32")
    table = weights.matrix("embedding", shape.vocab_size, shape.width, shape.embedding_bits)
    table = first_rows(table, vocabulary)
    x = embedding_rows(builder, f"{SECTION}.embedding", tokens, table)
    width = shape.width
    heads = (shape.heads, shape.kv_heads, shape.head_dim)
    for index in range(shape.layers):
        layer = f"layers.{index}."

        h = weights.norm(builder, layer + "self_norm", x, width, shape.norm_eps)
        qkv = weights.linear(builder, layer + "self_qkv", h, width + 2 * shape.kv_width, width, shape.bits)
        # Queries, then keys: both are rotated; the values after them are copied.
        turned = [shape.heads + shape.kv_heads, shape.head_dim, shape.rope_theta]
        qkv = builder.apply("rope", [qkv, positions], turned)
        cache = [3 * index, 3 * index + 1, *heads]
        mixed = builder.apply("attention_cached", [qkv, positions, sequences], cache)
        x = weights.linear(builder, layer + "self_out", mixed, width, width, shape.bits, residual=x)

        h = weights.norm(builder, layer + "cross_norm", x, width, shape.norm_eps)
        q = weights.linear(builder, layer + "cross_q", h, width, width, shape.bits)
        mixed = builder.apply("attention_memory", [q], [_memory_state(index), *heads])
        x = weights.linear(builder, layer + "cross_out", mixed, width, width, shape.bits, residual=x)

        h = weights.norm(builder, layer + "ffn_norm", x, width, shape.norm_eps)
        gate_up = weights.linear(builder, layer + "gate_up", h, 2 * shape.ffn, width, shape.bits)
        inner = builder.apply("silu_mul", [gate_up])
        x = weights.linear(builder, layer + "down", inner, width, shape.ffn, shape.bits, residual=x)
    h = weights.norm(builder, "norm", x, width, shape.norm_eps)
    builder.output("logits", linear(builder, f"{SECTION}.embedding", h, table))
    return builder.finish()


def _memory_state(layer: int) -> int:
    return 3 * layer + 2
