"""The caption decoder: a small transformer that reads image features by cross-attention.

The core runs this arithmetic from the packed weights. No biases; RMSNorm before each part; rotary positions in
self-attention (pairs i, i + head_width / 2); the embedding is also the output head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.quantization.linear import QuantizedEmbedding, QuantizedLinear
from mobile_multimodal.training.dropout import ByteDropout

FULL_PRECISION = 32
# oneDNN compiles a bf16 product for each new number of rows and keeps it: 33 ms and 4 MB for a new one of 1950 x 512
# by 512 x 2048, 9 ms for a known one. Few numbers of rows keep time and memory down.
ROW_BLOCK = 256


@dataclass(frozen=True)
class CaptionConfig:
    """Shape and bit widths of a caption decoder; 32 bits mean full precision (the teacher and the twin)."""

    vocab_size: int = 4096
    width: int = 512
    layers: int = 4
    heads: int = 8
    kv_heads: int = 8
    ffn: int = 1024
    memory_width: int = 1280
    memory_length: int = 49
    max_length: int = 48
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    bits: int = 2
    memory_bits: int = 8
    embedding_bits: int = 8

    def __post_init__(self) -> None:
        for name in ("vocab_size", "width", "ffn", "memory_width"):
            if getattr(self, name) <= 0 or getattr(self, name) % 16:
                raise InvalidInputError(
                    f"{name} is {getattr(self, name)}, expected a positive multiple of 16",
                    hint="the weight tiles hold 16 rows by 16 columns",
                )
        if self.width % self.heads or self.heads % self.kv_heads or self.head_width % 2:
            raise InvalidInputError(
                f"width {self.width} does not split into {self.heads} heads over {self.kv_heads} key-value heads",
                hint="width must divide by heads, heads by kv_heads, and a head must be of even width",
            )

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_width


class Linear(nn.Module):
    """Full-precision linear layer without bias; bf16 under autocast."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.normal_(self.weight, std=inputs**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Embedding(Linear):
    """Full-precision embedding that is also the output head."""

    def lookup(self, tokens: Tensor) -> Tensor:
        return self.weight[tokens]


def linear(inputs: int, outputs: int, bits: int) -> Linear | QuantizedLinear:
    return Linear(inputs, outputs) if bits == FULL_PRECISION else QuantizedLinear(inputs, outputs, bits)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight


def rotary_table(config: CaptionConfig) -> Tensor:
    """cos and sin of the rotary angles, [2, max_length, head_width / 2]."""
    half = config.head_width // 2
    frequencies = config.rope_theta ** -(torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(config.max_length, dtype=torch.float64)[:, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()]).float()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turns the pairs (i, i + half) of x [..., positions, head_width] by table [2, positions, half]."""
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = table
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(head_width)) v over [N, heads, positions, head_width]; repeats key-value heads.

    Written out: at these lengths the backward pass of torch's fused attention takes ten times longer on a CPU.
    """
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    with torch.autocast("cpu", enabled=False):
        scores = (q.float() * q.shape[-1] ** -0.5) @ k.float().transpose(-1, -2)
        if causal:
            scores = scores + torch.full(scores.shape[-2:], -torch.inf).triu(1)
        return scores.softmax(dim=-1) @ v.float()


@dataclass(frozen=True)
class TokenBatch:
    """Captions of a batch of pictures: `tokens` [pictures * captions, length] and which of them are real input.

    Real tokens are also held flat, so that linear layers skip most padding: `index` are their places in the
    flattened `tokens`, `position` their places in their caption. Padding in the flat list comes last.
    """

    tokens: Tensor
    index: Tensor
    position: Tensor
    captions: int

    @classmethod
    def from_lengths(cls, tokens: Tensor, lengths: Tensor, captions: int) -> TokenBatch:
        """lengths: real tokens per caption, [pictures * captions].

        The flat list is filled up with padding to a multiple of ROW_BLOCK rows.
        """
        real = (torch.arange(tokens.shape[1]) < lengths[:, None]).flatten()
        index, padding = real.nonzero()[:, 0], (~real).nonzero()[:, 0]
        index = torch.cat([index, padding[: -len(index) % ROW_BLOCK]])
        return cls(tokens=tokens, index=index, position=index % tokens.shape[1], captions=captions)

    def spread(self, flat: Tensor) -> Tensor:
        """[real, width] -> [pictures * captions, length, width], zeros for padding."""
        places = self.tokens.numel()
        return flat.new_zeros(places, flat.shape[-1]).index_copy(0, self.index, flat).view(*self.tokens.shape, -1)

    def gather(self, padded: Tensor) -> Tensor:
        """The inverse of spread."""
        return padded.reshape(self.tokens.numel(), -1).index_select(0, self.index)


class CaptionMemory(nn.Module):
    """What the decoder looks at: features [B, 49, 1280] -> rows [B, 49, width]."""

    def __init__(self, config: CaptionConfig) -> None:
        super().__init__()
        self.project = linear(config.memory_width, config.width, config.memory_bits)
        self.position = nn.Parameter(torch.zeros(config.memory_length, config.width))
        self.norm = RMSNorm(config.width, config.norm_eps)

    def forward(self, features: Tensor) -> Tensor:
        rows: Tensor = self.norm(self.project(features) + self.position)
        return rows


class CaptionLayer(nn.Module):
    """Self-attention, cross-attention and a gated feed-forward part, each added to the stream."""

    def __init__(self, config: CaptionConfig) -> None:
        super().__init__()
        width, kv, bits = config.width, config.kv_width, config.bits
        self.config = config
        self.self_norm = RMSNorm(width, config.norm_eps)
        self.self_qkv = linear(width, width + 2 * kv, bits)
        self.self_out = linear(width, width, bits)
        self.cross_norm = RMSNorm(width, config.norm_eps)
        self.cross_q = linear(width, width, bits)
        self.cross_kv = linear(width, 2 * kv, bits)
        self.cross_out = linear(width, width, bits)
        self.ffn_norm = RMSNorm(width, config.norm_eps)
        self.gate_up = linear(width, 2 * config.ffn, bits)
        self.down = linear(config.ffn, width, bits)

    def _heads(self, x: Tensor) -> Tensor:
        """[N, positions, heads * head_width] -> [N, heads, positions, head_width]."""
        return x.view(*x.shape[:2], -1, self.config.head_width).transpose(1, 2)

    def self_query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config = self.config
        parts = self.self_qkv(self.self_norm(x)).split([config.width, config.kv_width, config.kv_width], dim=-1)
        return parts[0], parts[1], parts[2]

    def cross_key_value(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the memory rows, computed once per picture."""
        k, v = self.cross_kv(memory).chunk(2, dim=-1)
        return self._heads(k), self._heads(v)

    def feed_forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(self.ffn_norm(x)).float().chunk(2, dim=-1)
        y: Tensor = self.down(F.silu(gate) * up)
        return y

    def forward(self, x: Tensor, memory: Tensor, batch: TokenBatch, table: Tensor, drop: ByteDropout) -> Tensor:
        """x: the real tokens, [real, width]; memory: [pictures, 49, width]."""
        config = self.config
        n, length = batch.tokens.shape
        q, k, v = self.self_query_key_value(x)
        turned = rotate(torch.cat([q, k], dim=-1).view(len(x), -1, config.head_width), table[:, batch.position, None])
        q, k = turned[:, : config.heads], turned[:, config.heads :]
        q, k, v = (self._heads(batch.spread(part.reshape(len(x), -1))) for part in (q, k, v))
        x = x + drop(self.self_out(batch.gather(attend(q, k, v, causal=True).transpose(1, 2)))).float()

        q = batch.spread(self.cross_q(self.cross_norm(x))).view(n // batch.captions, batch.captions * length, -1)
        mixed = attend(self._heads(q), *self.cross_key_value(memory))
        x = x + drop(self.cross_out(batch.gather(mixed.transpose(1, 2)))).float()
        return x + drop(self.feed_forward(x)).float()

    def step(self, x: Tensor, cross: tuple[Tensor, Tensor], cache: DecodeCache, layer: int, table: Tensor) -> Tensor:
        """One token for each row of x [N, width], with cached keys and values."""
        q, k, v = (self._heads(part[:, None]) for part in self.self_query_key_value(x))
        here = table[:, cache.length : cache.length + 1]
        keys, values = cache.append(layer, rotate(k, here), v)
        x = x + self.self_out(attend(rotate(q, here), keys, values).transpose(1, 2).reshape(x.shape)).float()
        # The rows of one picture share its memory: they are queries of one attention.
        pictures = cross[0].shape[0]
        q = self._heads(self.cross_q(self.cross_norm(x)).view(pictures, x.shape[0] // pictures, -1))
        x = x + self.cross_out(attend(q, *cross).transpose(1, 2).reshape(x.shape)).float()
        return x + self.feed_forward(x).float()


class DecodeCache:
    """Keys and values of the tokens so far, [N, kv_heads, max_length, head_width] for each layer."""

    def __init__(self, config: CaptionConfig, rows: int) -> None:
        shape = (config.layers, 2, rows, config.kv_heads, config.max_length, config.head_width)
        self._store = torch.zeros(shape)
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        store = self._store[layer]
        store[0][:, :, self.length] = k[:, :, 0].float()
        store[1][:, :, self.length] = v[:, :, 0].float()
        return store[0][:, :, : self.length + 1], store[1][:, :, : self.length + 1]

    def reorder(self, rows: Tensor) -> None:
        """Row i continues what row rows[i] held."""
        self._store[..., : self.length, :] = self._store[..., : self.length, :].index_select(2, rows)


class CaptionModel(nn.Module):
    """Features and the tokens so far in, logits of the next token out."""

    def __init__(self, config: CaptionConfig, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.drop = ByteDropout(dropout, seed)
        self.embedding: Embedding | QuantizedEmbedding
        if config.embedding_bits == FULL_PRECISION:
            self.embedding = Embedding(config.width, config.vocab_size)
        else:
            self.embedding = QuantizedEmbedding(config.width, config.vocab_size, config.embedding_bits)
        self.memory = CaptionMemory(config)
        self.layers = nn.ModuleList(CaptionLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.rotary: Tensor
        self.register_buffer("rotary", rotary_table(config), persistent=False)

    def _layers(self) -> Sequence[CaptionLayer]:
        return self.layers  # type: ignore[return-value]

    def forward(self, features: Tensor, batch: TokenBatch) -> Tensor:
        """Logits of the token after each real token of the batch, [real, vocab_size] float32."""
        memory = self.drop(self.memory(features))
        x = self.drop(self.embedding.lookup(batch.tokens.flatten()[batch.index]))
        for layer in self._layers():
            x = layer(x, memory, batch, self.rotary, self.drop)
        logits: Tensor = self.embedding(self.norm(x)).float()
        return logits

    def start(self, features: Tensor, rows_per_picture: int) -> tuple[list[tuple[Tensor, Tensor]], DecodeCache]:
        """Cross keys and values of each layer, and an empty cache for rows_per_picture rows of each picture."""
        memory = self.memory(features)
        cross = [layer.cross_key_value(memory) for layer in self._layers()]
        return cross, DecodeCache(self.config, features.shape[0] * rows_per_picture)

    def step(self, tokens: Tensor, cross: list[tuple[Tensor, Tensor]], cache: DecodeCache) -> Tensor:
        """Logits after one more token per row: tokens [N] -> [N, vocab_size] float32."""
        x = self.embedding.lookup(tokens)
        for index, layer in enumerate(self._layers()):
            x = layer.step(x, cross[index], cache, index, self.rotary)
        cache.length += 1
        logits: Tensor = self.embedding(self.norm(x)).float()
        return logits


def initialise(model: CaptionModel) -> None:
    """Starting weights: outputs of the residual parts are scaled down by the depth, embeddings by the width."""
    depth = (3 * model.config.layers) ** -0.5
    with torch.no_grad():
        for layer in model._layers():
            for part in (layer.self_out, layer.cross_out, layer.down):
                part.weight.mul_(depth)
        nn.init.normal_(model.memory.position, std=0.02)
