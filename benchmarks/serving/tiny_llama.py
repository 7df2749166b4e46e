"""Writes a model of random numbers, about the smallest for llama.cpp's server: `python tiny_llama.py OUT.gguf`."""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np

WIDTH = 64
HEADS = 2
FEED_FORWARD = 128
CONTEXT = 256
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]  # a vocabulary of bytes can spell anything
LETTER = len(SPECIAL) + ord("x")


def write_tiny_llama(path: Path) -> None:
    """One layer over a vocabulary of bytes: what it writes means nothing, and costs next to nothing."""
    vocabulary = [*SPECIAL, *BYTES]
    random = np.random.default_rng(0)

    def weights(rows: int, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return random.normal(0, 0.02, (rows, columns)).astype(np.float32)

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny llama of random numbers")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(vocabulary)
    writer.add_token_scores([0.0] * len(vocabulary))
    special = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    writer.add_token_types([*special, *[gguf.TokenType.BYTE] * len(BYTES)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    writer.add_tensor("token_embd.weight", weights(len(vocabulary), WIDTH))
    writer.add_tensor("output.weight", weights(len(vocabulary), WIDTH))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", weights(WIDTH, WIDTH))
    for name in ("ffn_gate", "ffn_up"):
        writer.add_tensor(f"blk.0.{name}.weight", weights(FEED_FORWARD, WIDTH))
    writer.add_tensor("blk.0.ffn_down.weight", weights(WIDTH, FEED_FORWARD))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write_tiny_llama(Path(sys.argv[1]))
