"""Computes a Llama model's logits in float32 from its GGUF file, with PyTorch: shares no code with the importer.

Rotates neighbouring pairs, as the file's order of rows asks for, where our `rope` rotates halves.
"""

from __future__ import annotations

import gguf
import numpy as np
import torch
from gguf.quants import dequantize


class LlamaReference:
    """A whole text at once, without caches."""

    def __init__(self, path: str) -> None:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items() if name.startswith("llama.")}
        self.layers = int(fields["llama.block_count"])
        self.heads = int(fields["llama.attention.head_count"])
        self.kv_heads = int(fields["llama.attention.head_count_kv"])
        self.epsilon = float(fields["llama.attention.layer_norm_rms_epsilon"])
        self.theta = float(fields["llama.rope.freq_base"])
        self.weights = {
            tensor.name: torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
            for tensor in reader.tensors
        }

    def logits(self, tokens: list[int]) -> np.ndarray:
        """[tokens, vocabulary] behind each token."""
        w = self.weights
        x = w["token_embd.weight"][torch.tensor(tokens)]
        mask = torch.full((len(tokens), len(tokens)), float("-inf")).triu(1)
        with torch.inference_mode():
            for layer in range(self.layers):
                name = f"blk.{layer}."
                h = self._norm(x, w[name + "attn_norm.weight"])
                q, k, v = (
                    (h @ w[f"{name}attn_{part}.weight"].T).view(len(tokens), heads, -1).transpose(0, 1)
                    for part, heads in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads))
                )
                q, k = self._rotated(q), self._rotated(k)
                group = self.heads // self.kv_heads
                k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
                weights = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + mask, dim=-1)
                mixed = (weights @ v).transpose(0, 1).reshape(len(tokens), -1)
                x = x + mixed @ w[name + "attn_output.weight"].T
                h = self._norm(x, w[name + "ffn_norm.weight"])
                gate = torch.nn.functional.silu(h @ w[name + "ffn_gate.weight"].T)
                x = x + (gate * (h @ w[name + "ffn_up.weight"].T)) @ w[name + "ffn_down.weight"].T
            head = w.get("output.weight", w["token_embd.weight"])
            return (self._norm(x, w["output_norm.weight"]) @ head.T).numpy()

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * weight

    def _rotated(self, x: torch.Tensor) -> torch.Tensor:
        """x [heads, tokens, head_dim]: pairs (2i, 2i + 1) turned by position * theta ** (-2i / head_dim)."""
        half = x.shape[-1] // 2
        speeds = self.theta ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * speeds
        cos, sin = angles.cos().float(), angles.sin().float()
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)
