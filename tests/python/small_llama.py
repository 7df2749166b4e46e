"""Writes small Llama models with random weights as GGUF files, with the `gguf` package, and computes them plainly.

`plain_logits` follows the published model in float64 over the weights as they were before llama.cpp's converter puts
rows of queries and keys in its order: it shares no code with the importer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' if add_generation_prompt else '' }}"
)
MERGES = ("h e", "l l", "he ll", "hell o", "Ġ w", "Ġ Ġ", "1 2", "Ġ 1", "i n", "in g")
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_letters() -> list[str]:
    """GPT-2's letters of the bytes 0 to 255."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(byte) if byte in own else chr(next(rest)) for byte in range(256)]


@dataclass
class SmallLlama:
    """A model's sizes and weights; matrices are [n, k]."""

    heads: int = 4
    kv_heads: int = 2
    width: int = 64
    ffn: int = 96
    layers: int = 2
    context: int = 64
    theta: float = 10000.0
    epsilon: float = 1e-5
    has_own_head: bool = False
    tokens: list[str] = field(
        default_factory=lambda: [*CONTROL, *byte_letters(), *(merge.replace(" ", "") for merge in MERGES)]
    )
    weights: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        head_dim = self.width // self.heads

        def matrix(name: str, n: int, k: int, scale: float = 1.0) -> None:
            self.weights[name] = (scale * random.normal(size=(n, k)) / np.sqrt(k)).astype(np.float32)

        def norm(name: str) -> None:
            self.weights[name] = random.uniform(0.5, 1.5, self.width).astype(np.float32)

        matrix("token_embd.weight", len(self.tokens), self.width, 6.0)
        norm("output_norm.weight")
        if self.has_own_head:
            matrix("output.weight", len(self.tokens), self.width, 6.0)
        for layer in range(self.layers):
            name = f"blk.{layer}."
            norm(name + "attn_norm.weight")
            norm(name + "ffn_norm.weight")
            matrix(name + "attn_q.weight", self.width, self.width, 2.0)
            matrix(name + "attn_k.weight", self.kv_heads * head_dim, self.width, 2.0)
            matrix(name + "attn_v.weight", self.kv_heads * head_dim, self.width)
            matrix(name + "attn_output.weight", self.width, self.width)
            matrix(name + "ffn_gate.weight", self.ffn, self.width)
            matrix(name + "ffn_up.weight", self.ffn, self.width)
            matrix(name + "ffn_down.weight", self.width, self.ffn)

    def write(
        self,
        path: Path,
        change: Callable[[gguf.GGUFWriter], None] | None = None,
        *,
        kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
        leave_out: tuple[str, ...] = (),
        template: str | None = CHATML,
        **keys: Any,
    ) -> Path:
        """The file as llama.cpp's converter would write it. `change` may add to it; `keys` replace values below."""
        values = {
            "vocab_size": len(self.tokens),
            "pre": "smollm",
            "model": "gpt2",
            "types": [3 if token in CONTROL else 1 for token in self.tokens],
            "merges": list(MERGES),
            "architecture": "llama",
            "eos": 2,
            **keys,
        }
        writer = gguf.GGUFWriter(str(path), values["architecture"])
        writer.add_string("general.license", "mit")
        numbers = {
            "context_length": self.context,
            "embedding_length": self.width,
            "block_count": self.layers,
            "feed_forward_length": self.ffn,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "vocab_size": values["vocab_size"],
        }
        for name, number in numbers.items():
            if name not in leave_out:
                writer.add_uint32(f"llama.{name}", number)
        writer.add_float32("llama.rope.freq_base", self.theta)
        writer.add_float32("llama.attention.layer_norm_rms_epsilon", self.epsilon)
        writer.add_tokenizer_model(values["model"])
        writer.add_tokenizer_pre(values["pre"])
        writer.add_token_list(self.tokens)
        writer.add_token_types(values["types"])
        writer.add_token_merges(values["merges"])
        if values["eos"] is not None:
            writer.add_eos_token_id(values["eos"])
        writer.add_bos_token_id(1)
        writer.add_add_bos_token(False)
        if template is not None:
            writer.add_chat_template(template)
        for name, array in self.weights.items():
            if name in leave_out:
                continue
            if "attn_q" in name or "attn_k" in name:
                array = _converted(array, self.heads if "attn_q" in name else self.kv_heads)
            if array.ndim == 2 and kind != gguf.GGMLQuantizationType.F32:
                writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
            else:
                writer.add_tensor(name, array)
        if change is not None:
            change(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def plain_logits(self, tokens: list[int]) -> Array:
        """[tokens, vocabulary] in float64."""
        w = {name: array.astype(np.float64) for name, array in self.weights.items()}
        x = w["token_embd.weight"][tokens]
        count, head_dim = len(tokens), self.width // self.heads
        for layer in range(self.layers):
            name = f"blk.{layer}."
            h = self._norm(x, w[name + "attn_norm.weight"])
            q = self._turned((h @ w[name + "attn_q.weight"].T).reshape(count, self.heads, head_dim))
            k = self._turned((h @ w[name + "attn_k.weight"].T).reshape(count, self.kv_heads, head_dim))
            v = (h @ w[name + "attn_v.weight"].T).reshape(count, self.kv_heads, head_dim)
            mixed = np.zeros((count, self.heads, head_dim))
            for head in range(self.heads):
                shared = head // (self.heads // self.kv_heads)
                scores = q[:, head] @ k[:, shared].T / np.sqrt(head_dim)
                scores[np.triu_indices(count, 1)] = -np.inf
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                mixed[:, head] = weights / weights.sum(axis=1, keepdims=True) @ v[:, shared]
            x = x + mixed.reshape(count, -1) @ w[name + "attn_output.weight"].T
            h = self._norm(x, w[name + "ffn_norm.weight"])
            gate = h @ w[name + "ffn_gate.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * (h @ w[name + "ffn_up.weight"].T)) @ w[name + "ffn_down.weight"].T
        head = w["output.weight"] if self.has_own_head else w["token_embd.weight"]
        return np.asarray(self._norm(x, w["output_norm.weight"]) @ head.T)

    def _norm(self, x: Array, weight: Array) -> Array:
        return np.asarray(x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + self.epsilon) * weight)

    def _turned(self, x: Array) -> Array:
        """x [tokens, heads, head_dim]: pairs (i, i + head_dim / 2), as the published model turns them."""
        half = x.shape[-1] // 2
        angles = np.arange(len(x))[:, None, None] * self.theta ** (-np.arange(half) / half)
        first, second = x[..., :half], x[..., half:]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _converted(rows: Array, heads: int) -> Array:
    """The order of rows in which llama.cpp turns neighbours."""
    return np.ascontiguousarray(rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape))
