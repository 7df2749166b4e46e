"""Builds the programs `decode_text` and `score_text` of a Llama model, and the states they share.

Both take any number of tokens; `decode_text` gives the logits behind the last of them alone, `score_text` behind each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile.llama_gguf import LlamaShape, LlamaWeights
from mobile_multimodal.compile.pack import embedding_rows, linear
from mobile_multimodal.compile.program import ProgramBuilder, State, TensorStore, Value
from mobile_multimodal.compile.rotation import RotatedWeights
from mobile_multimodal.compile.weight_codes import FLOAT_BITS, Weight, quantize
from mobile_multimodal.model.program import Program

SECTION = "decoder"


@dataclass(frozen=True)
class TextDecoder:
    """The programs and their states, in the order in which instructions number them."""

    programs: tuple[Program, ...]
    states: tuple[State, ...]


@dataclass(frozen=True)
class _Layer:
    attention_norm: NDArray[np.float32]
    qkv: Weight
    out: Weight
    ffn_norm: NDArray[np.float32]
    gate_up: Weight
    down: Weight


@dataclass(frozen=True)
class _Model:
    shape: LlamaShape
    embedding: Weight
    layers: list[_Layer]
    last_norm: NDArray[np.float32]
    head: Weight | None  # None: the embedding's table
    down_block: int = 1  # of the `hadamard` before `down`; 1: none
    head_turn: NDArray[np.float32] | None = None


def build_text_decoder(
    weights: LlamaWeights, tensors: TensorStore, *, context: int, bits: int, head_bits: int
) -> TextDecoder:
    """Compiles a model.

    context: the most tokens of a text; a cache takes memory for those that are written, not for all of them.
    bits: 2, 4, 8, or 32 for floats, of the layers' matrices; head_bits: of the embedding and the output head. Any of
    them but 32 turns the model first (compile/rotation.py).
    """
    shape = weights.shape
    kv_width = shape.kv_heads * shape.head_dim
    states = tuple(
        State(f"layers.{index}.{name}", "cache", kv_width, context)
        for index in range(shape.layers)
        for name in ("key", "value")
    )
    model = _plain(weights) if bits == head_bits == FLOAT_BITS else _turned(RotatedWeights(weights), bits, head_bits)
    programs = tuple(
        _build(ProgramBuilder(name, tensors), model, only_last=only_last)
        for name, only_last in (("decode_text", True), ("score_text", False))
    )
    return TextDecoder(programs, states)


def _plain(weights: LlamaWeights) -> _Model:
    layers = [
        _Layer(
            attention_norm=weights.norm(f"blk.{index}.attn_norm"),
            qkv=weights.qkv(index),
            out=weights.attention_out(index),
            ffn_norm=weights.norm(f"blk.{index}.ffn_norm"),
            gate_up=weights.gate_up(index),
            down=weights.down(index),
        )
        for index in range(weights.shape.layers)
    ]
    head = weights.head() if weights.has_own_head else None
    return _Model(weights.shape, weights.embedding(), layers, weights.norm("output_norm"), head)


def _turned(weights: RotatedWeights, bits: int, head_bits: int) -> _Model:
    ones = np.ones(weights.shape.width, dtype=np.float32)
    layers = [
        _Layer(
            attention_norm=ones,
            qkv=quantize(weights.qkv(index), bits),
            out=quantize(weights.attention_out(index), bits),
            ffn_norm=ones,
            gate_up=quantize(weights.gate_up(index), bits),
            down=quantize(weights.down(index), bits),
        )
        for index in range(weights.shape.layers)
    ]
    return _Model(
        weights.shape,
        quantize(weights.embedding(), head_bits),
        layers,
        ones,
        quantize(weights.head(), head_bits) if weights.has_own_head else None,
        weights.down_block,
        None if weights.has_own_head else weights.head_turn(),
    )


def _build(builder: ProgramBuilder, model: _Model, *, only_last: bool) -> Program:
    shape = model.shape

    def norm(name: str, x: Value, weight: NDArray[np.float32]) -> Value:
        return builder.apply("rms_norm", [x, builder.tensor(f"{SECTION}.{name}.weight", weight)], [shape.norm_eps])

    tokens = builder.input("tokens", "i32")
    positions = builder.input("positions", "i32")
    sequences = builder.input("sequences", "i32")
    x = embedding_rows(builder, f"{SECTION}.embedding", tokens, model.embedding)
    for index, layer in enumerate(model.layers):
        name = f"layers.{index}."
        h = norm(name + "attention_norm", x, layer.attention_norm)
        qkv = linear(builder, f"{SECTION}.{name}qkv", h, layer.qkv)
        # Queries, then keys: both are rotated; the values after them are copied.
        qkv = builder.apply("rope", [qkv, positions], [shape.heads + shape.kv_heads, shape.head_dim, shape.rope_theta])
        cache = [2 * index, 2 * index + 1, shape.heads, shape.kv_heads, shape.head_dim]
        mixed = builder.apply("attention_cached", [qkv, positions, sequences], cache)
        if only_last and index == shape.layers - 1:  # the caches are written: from here on the last row goes on alone
            mixed, x = builder.apply("last_row", [mixed]), builder.apply("last_row", [x])
        x = linear(builder, f"{SECTION}.{name}out", mixed, layer.out, residual=x)

        h = norm(name + "ffn_norm", x, layer.ffn_norm)
        inner = builder.apply("silu_mul", [linear(builder, f"{SECTION}.{name}gate_up", h, layer.gate_up)])
        if model.down_block > 1:
            inner = builder.apply("hadamard", [inner], [model.down_block])
        x = linear(builder, f"{SECTION}.{name}down", inner, layer.down, residual=x)
    h = norm("norm", x, model.last_norm)
    if model.head_turn is not None:
        h = linear(builder, f"{SECTION}.head_turn", h, model.head_turn)
    name, head = ("embedding", model.embedding) if model.head is None else ("head", model.head)
    builder.output("logits", linear(builder, f"{SECTION}.{name}", h, head))
    return builder.finish()
