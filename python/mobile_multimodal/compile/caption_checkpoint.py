"""Reads a trained caption decoder from its checkpoint: shape, weights as numpy arrays, tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobile_multimodal.compile.trained_weights import TrainedWeights, load_checkpoint

_HINT = "pass a checkpoint that `mobile-mm train caption` wrote."


@dataclass(frozen=True)
class CaptionShape:
    """The shape and bit widths of a decoder, by the names of the checkpoint's `config`."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    memory_width: int
    memory_length: int
    max_length: int
    rope_theta: float
    norm_eps: float
    bits: int
    memory_bits: int
    embedding_bits: int

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim


@dataclass(frozen=True)
class CaptionCheckpoint(TrainedWeights):
    """A trained decoder; `tokenizer` is the text of its tokenizer.json."""

    shape: CaptionShape
    tokenizer: str
    meta: Mapping[str, Any]


def load_caption_checkpoint(path: Path) -> CaptionCheckpoint:
    """Reads a checkpoint; runs no code from the file."""
    content = load_checkpoint(path, {"tokenizer", "meta"}, CaptionShape, _HINT)
    return CaptionCheckpoint(content["state_dict"], _HINT, content["config"], content["tokenizer"], content["meta"])
