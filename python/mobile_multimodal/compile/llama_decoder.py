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
from mobile_multimodal.compile.weight_codes import Weight, quantize
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


def build_text_decoder(
    weights: LlamaWeights, tensors: TensorStore, *, context: int, bits: int, head_bits: int
) -> TextDecoder:
    """Compiles a model.

    context: the most tokens of a text; a cache takes memory for those that are written, not for all of them.
    bits: 2, 4, 8, or 32 for floats, of the layers' matrices; head_bits: of the embedding and the output head.
    """
    shape = weights.shape
    kv_width = shape.kv_heads * shape.head_dim
    states = tuple(
        State(f"layers.{index}.{name}", "cache", kv_width, context)
        for index in range(shape.layers)
        for name in ("key", "value")
    )
    layers = [
        _Layer(
            weights.norm(f"blk.{index}.attn_norm"),
            quantize(weights.qkv(index), bits),
            quantize(weights.attention_out(index), bits),
            weights.norm(f"blk.{index}.ffn_norm"),
            quantize(weights.gate_up(index), bits),
            quantize(weights.down(index), bits),
        )
        for index in range(shape.layers)
    ]
    embedding = quantize(weights.embedding(), head_bits)
    head = quantize(weights.head(), head_bits) if weights.has_own_head else None
    norm = weights.norm("output_norm")
    programs = tuple(
        _build(ProgramBuilder(name, tensors), shape, layers, norm, embedding, head, only_last=only_last)
        for name, only_last in (("decode_text", True), ("score_text", False))
    )
    return TextDecoder(programs, states)


def _build(
    builder: ProgramBuilder,
    shape: LlamaShape,
    layers: list[_Layer],
    last_norm: NDArray[np.float32],
    embedding: Weight,
    head: Weight | None,
    *,
    only_last: bool,
) -> Program:
    def norm(name: str, x: Value, weight: NDArray[np.float32]) -> Value:
        return builder.apply("rms_norm", [x, builder.tensor(f"{SECTION}.{name}.weight", weight)], [shape.norm_eps])

    tokens = builder.input("tokens", "i32")
    positions = builder.input("positions", "i32")
    sequences = builder.input("sequences", "i32")
    x = embedding_rows(builder, f"{SECTION}.embedding", tokens, embedding)
    for index, layer in enumerate(layers):
        name = f"layers.{index}."
        h = norm(name + "attention_norm", x, layer.attention_norm)
        qkv = linear(builder, f"{SECTION}.{name}qkv", h, layer.qkv)
        # Queries, then keys: both are rotated; the values after them are copied.
        qkv = builder.apply("rope", [qkv, positions], [shape.heads + shape.kv_heads, shape.head_dim, shape.rope_theta])
        cache = [2 * index, 2 * index + 1, shape.heads, shape.kv_heads, shape.head_dim]
        mixed = builder.apply("attention_cached", [qkv, positions, sequences], cache)
        if only_last and index == len(layers) - 1:  # the caches are written: from here on the last row goes on alone
            mixed, x = builder.apply("last_row", [mixed]), builder.apply("last_row", [x])
        x = linear(builder, f"{SECTION}.{name}out", mixed, layer.out, residual=x)

        h = norm(name + "ffn_norm", x, layer.ffn_norm)
        inner = builder.apply("silu_mul", [linear(builder, f"{SECTION}.{name}gate_up", h, layer.gate_up)])
        x = linear(builder, f"{SECTION}.{name}down", inner, layer.down, residual=x)
    h = norm("norm", x, last_norm)
    name = f"{SECTION}.embedding" if head is None else f"{SECTION}.head"
    builder.output("logits", linear(builder, name, h, embedding if head is None else head))
    return builder.finish()
