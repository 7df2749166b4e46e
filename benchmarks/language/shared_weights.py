"""Makes a Llama-shaped model whose 2-bit weights a GGUF file holds exactly as this core does: Q2_K without loss.

Stretched elastic quantization has four balanced levels, scale * (code - 1.5). A Q2_K block of 256 weights says
d * sc * code - dmin * m for each 16 of them, so that sc = 2, m = 3 and d = dmin = scale / 2 give the same numbers when
scale / 2 is a float16. The weights are random: a race needs their number and form, not their sense.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

BLOCK = 256  # weights of a Q2_K block, ggml's QK_K
_GROUPS = BLOCK // 16
_SCALES = 2 | 3 << 4  # of every 16 weights: sc in the low half of the byte, m in the high half
Codes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SharedShape:
    """About the size of SmolLM2-135M (30 layers, 576, 1536), with widths that divide by 256."""

    width: int = 768
    ffn: int = 2048
    layers: int = 16
    heads: int = 12
    kv_heads: int = 4
    vocabulary: int = 49152

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of the matrices of a layer, by their GGUF names."""
        kv = self.width // self.heads * self.kv_heads
        return {
            "attn_q": (self.width, self.width),
            "attn_k": (kv, self.width),
            "attn_v": (kv, self.width),
            "attn_output": (self.width, self.width),
            "ffn_gate": (self.ffn, self.width),
            "ffn_up": (self.ffn, self.width),
            "ffn_down": (self.width, self.ffn),
        }

    @property
    def linear_weights(self) -> int:
        """Weights of all layers, the output head not among them."""
        return self.layers * sum(rows * columns for rows, columns in self.matrices().values())


def draw_codes(random: np.random.Generator, rows: int, columns: int, size: float) -> tuple[Codes, Floats]:
    """Codes of normally distributed weights and a scale a row, whose half is a float16. size: deviation of a weight."""
    scale = size * random.uniform(0.9, 1.1, rows)
    scale = (scale / 2).astype(np.float16).astype(np.float32) * 2
    codes = np.clip(np.floor(random.standard_normal((rows, columns), dtype=np.float32)) + 2, 0, 3).astype(np.uint8)
    codes[:, 0] = 3  # the outermost level occurs in every row: whoever looks for the scale finds this one
    return codes, scale


def dequantized(codes: Codes, scale: Floats) -> Floats:
    """What the codes stand for: scale * (code - 1.5)."""
    return (codes.astype(np.float32) - np.float32(1.5)) * scale[:, None]


def q2_k_blocks(codes: Codes, scale: Floats) -> npt.NDArray[np.uint8]:
    """Q2_K rows [rows, columns / 256 * 84]: 16 bytes of scales, 64 of codes, d and dmin.

    Each 128 codes fill 32 bytes, the first 32 of them in the lowest bits.
    """
    rows, columns = codes.shape
    if columns % BLOCK:
        raise ValueError(f"{columns} columns do not divide into blocks of {BLOCK}")
    half = (scale / 2).astype(np.float16)
    if not np.array_equal(half.astype(np.float32) * 2, scale):
        raise ValueError("a scale's half is no float16: Q2_K would round it")
    blocks = columns // BLOCK
    planes = codes.reshape(rows, blocks, 2, 4, 32) << np.array([0, 2, 4, 6], np.uint8)[:, None]
    packed = np.bitwise_or.reduce(planes, axis=3).reshape(rows, blocks, 64)
    scales = np.full((rows, blocks, _GROUPS), _SCALES, np.uint8)
    steps = np.repeat(half[:, None], 2 * blocks, axis=1).view(np.uint8).reshape(rows, blocks, 4)
    return np.concatenate([scales, packed, steps], axis=2).reshape(rows, -1)


def write_shared_model(out: Path, source: Path, shape: SharedShape, kind: str, seed: int = 1) -> None:
    """Writes a GGUF file for llama.cpp with the tokenizer of `source`; all matrices and the embedding have one form.

    kind: `Q2_K` (this core's 2-bit weights), or `TQ2_0` (as many ternary ones: the same work, other numbers).
    """
    import gguf

    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(out, "llama")
    _add_header(writer, gguf.GGUFReader(source), shape)
    file_type = gguf.GGMLQuantizationType[kind]

    def add(name: str, rows: int, columns: int, size: float) -> None:
        codes, scale = draw_codes(random, rows, columns, size)
        if kind == "Q2_K":
            data = q2_k_blocks(codes, scale)
        else:
            levels = np.minimum(codes, 2).astype(np.float32) - 1
            data = gguf.quants.quantize(levels * scale[:, None], file_type)
        writer.add_tensor(name, data, raw_dtype=file_type)

    add("token_embd.weight", shape.vocabulary, shape.width, shape.width**-0.5)
    depth = (2 * shape.layers) ** -0.5
    for layer in range(shape.layers):
        for name, (rows, columns) in shape.matrices().items():
            is_last = name in ("attn_output", "ffn_down")
            add(f"blk.{layer}.{name}.weight", rows, columns, columns**-0.5 * (depth if is_last else 1.0))
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(shape.width, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(shape.width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_header(writer, reader, shape: SharedShape) -> None:  # type: ignore[no-untyped-def]
    writer.add_name("shared-weights")
    writer.add_context_length(2048)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocabulary)
    for key, field in reader.fields.items():
        if key.startswith("tokenizer.ggml."):
            kinds = field.types
            writer.add_key_value(key, field.contents(), kinds[0], kinds[1] if len(kinds) > 1 else None)
