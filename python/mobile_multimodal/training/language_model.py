"""The language tower: text for questions and for retrieval, and the two views of a picture that it meets.

Three modules train apart and share one file: `SharedText` (word table and lower layers of MiniLM-L6, Wang et al.,
arXiv 2002.10957), `RetrievalModel` (texts and pictures as vectors of one space) and `QuestionModel` (a question that
looks at the picture's grid). Layers are BERT's: post-norm, biases, GELU, full attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.quantization.linear import QuantizedEmbedding, QuantizedLinear
from mobile_multimodal.training.caption_model import FULL_PRECISION, ROW_BLOCK, attend


@dataclass(frozen=True)
class LanguageConfig:
    """Shape and bit widths of a language tower; 32 bits mean full precision."""

    vocab_size: int
    width: int = 384
    heads: int = 12
    ffn: int = 1536
    shared_layers: int = 3
    text_layers: int = 3
    question_layers: int = 3
    picture_layers: int = 1
    picture_ffn: int = 768
    grid_layers: int = 1
    grid_ffn: int = 768
    max_length: int = 64
    norm_eps: float = 1e-12
    feature_width: int = 1280
    feature_length: int = 49
    embedding_width: int = 256
    bits: int = 2
    shared_bits: int = 2
    head_bits: int = 8
    project_bits: int = 8
    embedding_bits: int = 8

    def __post_init__(self) -> None:
        for name in ("width", "ffn", "picture_ffn", "grid_ffn", "feature_width", "embedding_width"):
            if getattr(self, name) <= 0 or getattr(self, name) % 16:
                raise InvalidInputError(
                    f"{name} is {getattr(self, name)}, expected a positive multiple of 16",
                    hint="the weight tiles hold 16 rows by 16 columns",
                )
        if self.width % self.heads:
            raise InvalidInputError(
                f"width {self.width} does not split into {self.heads} heads", hint="choose a divisor of the width"
            )


class AffineQuantized(QuantizedLinear):
    """Low-bit linear layer with a float bias."""

    def __init__(self, inputs: int, outputs: int, bits: int) -> None:
        super().__init__(inputs, outputs, bits)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.bias


def affine(inputs: int, outputs: int, bits: int) -> nn.Module:
    """A linear layer with bias at 2, 4, 8 or 32 bits; its first weights are small, as BERT's."""
    layer: nn.Module = nn.Linear(inputs, outputs) if bits == FULL_PRECISION else AffineQuantized(inputs, outputs, bits)
    nn.init.normal_(layer.weight, std=0.02)  # type: ignore[arg-type]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    if isinstance(layer, QuantizedLinear):
        layer.reset_scale()
    return layer


@torch.no_grad()
def widen(layer: nn.Module) -> None:
    """Draws first weights that keep the size of what passes: for layers that do not start from BERT's."""
    weight = layer.get_parameter("weight")
    nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    if isinstance(layer, QuantizedLinear):
        layer.reset_scale()


@dataclass(frozen=True)
class Rows:
    """Sequences without their padding: row r of the flat list stands at `place[r]` of [count, length].

    The flat list is filled up to a multiple of ROW_BLOCK; `real` counts the rows before the filling.
    """

    count: int
    length: int
    place: Tensor
    real: int

    @staticmethod
    def of(lengths: Tensor) -> Rows:
        count, length = len(lengths), int(lengths.max())
        place = (torch.arange(length)[None] < lengths[:, None]).flatten().nonzero()[:, 0]
        return Rows(count, length, place, len(place))

    @staticmethod
    def full(count: int, length: int) -> Rows:
        return Rows(count, length, torch.arange(count * length), count * length)

    @property
    def padded(self) -> int:
        return -(-self.real // ROW_BLOCK) * ROW_BLOCK

    def fill_up(self, rows: Tensor) -> Tensor:
        """[real, width] -> [padded, width]."""
        return F.pad(rows, (0, 0, 0, self.padded - self.real))

    def unfold(self, rows: Tensor) -> Tensor:
        """[padded, width] -> [count, length, width], zeros in the padding."""
        if self.real == self.count * self.length:
            return rows[: self.real].reshape(self.count, self.length, -1)
        grid = rows.new_zeros(self.count * self.length, rows.shape[-1])
        return grid.index_copy(0, self.place, rows[: self.real]).reshape(self.count, self.length, -1)

    def fold(self, grid: Tensor) -> Tensor:
        """[count, length, width] -> [padded, width]."""
        return self.fill_up(grid.reshape(self.count * self.length, -1)[self.place])

    def mask(self) -> Tensor | None:
        """0 where there is a token, -inf where there is none, [count, 1, 1, length]."""
        if self.real == self.count * self.length:
            return None
        mask = torch.full((self.count * self.length,), -torch.inf)
        mask[self.place] = 0
        return mask.reshape(self.count, 1, 1, self.length)

    def mean(self, rows: Tensor) -> Tensor:
        """Mean of each sequence's rows, [count, width]."""
        grid = self.unfold(rows.float())
        lengths = torch.bincount(self.place // self.length, minlength=self.count).clamp_min(1)
        return grid.sum(dim=1) / lengths[:, None]


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """Attention over [count, positions, width], with a mask that is added to the scores."""
    q, k, v = (_split_heads(part.float(), heads) for part in (q, k, v))
    if mask is None:
        mixed = attend(q, k, v)
    else:
        with torch.autocast("cpu", enabled=False):
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask
            mixed = scores.softmax(dim=-1) @ v
    return mixed.transpose(1, 2).flatten(2)


class Layer(nn.Module):
    """One post-norm transformer layer; with `sees`, it looks at a picture's grid between its two halves."""

    def __init__(self, config: LanguageConfig, ffn: int, bits: int, sees: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.qkv = affine(width, 3 * width, bits)
        self.out = affine(width, width, bits)
        self.attention_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.up = affine(width, ffn, bits)
        self.down = affine(ffn, width, bits)
        self.ffn_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.drop = nn.Dropout(dropout)
        self.sees = sees
        if sees:
            self.cross_q = affine(width, width, bits)
            self.cross_kv = affine(width, 2 * width, bits)
            self.cross_out = affine(width, width, bits)

    def forward(self, x: Tensor, rows: Rows, memory: Tensor | None = None, owner: Tensor | None = None) -> Tensor:
        """x [padded, width] -> the same.

        memory: the pictures' grids [pictures, 49, width]; owner: the picture of each sequence [count].
        """
        q, k, v = rows.unfold(self.qkv(x)).chunk(3, dim=-1)
        mixed = rows.fold(_attend(q, k, v, self.heads, rows.mask()))
        x = self.attention_norm(x.float() + self.drop(self.out(mixed)).float())
        if self.sees and memory is not None and owner is not None:
            keys, values = self.cross_kv(memory)[owner].chunk(2, dim=-1)
            mixed = rows.fold(_attend(rows.unfold(self.cross_q(x)), keys, values, self.heads, None))
            x = x + self.drop(self.cross_out(mixed)).float()
        return self.ffn_norm(x + self.drop(self.down(F.gelu(self.up(x)))).float())


class Picture(nn.Module):
    """Features [pictures, 49, 1280] of the frozen encoder -> rows [pictures * 49 (filled up), width]."""

    def __init__(self, config: LanguageConfig, layers: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.project = affine(config.feature_width, config.width, config.project_bits)
        self.position = nn.Parameter(torch.randn(config.feature_length, config.width) * 0.02)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.layers = nn.ModuleList(Layer(config, ffn, config.bits, dropout=dropout) for _ in range(layers))
        self.drop = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> tuple[Tensor, Rows]:
        count, length, _ = features.shape
        rows = Rows.full(count, length)
        x = self.project(rows.fill_up(features.reshape(count * length, -1))).float()
        x = x + rows.fill_up(self.position.repeat(count, 1))
        x = self.drop(self.norm(x))
        for layer in self.layers:
            x = layer(x, rows)
        return x, rows


class SharedText(nn.Module):
    """Word table and lower layers, common to retrieval and questions."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding: nn.Module = (
            nn.Embedding(config.vocab_size, config.width)
            if config.embedding_bits == FULL_PRECISION
            else QuantizedEmbedding(config.width, config.vocab_size, config.embedding_bits)
        )
        self.position = nn.Embedding(config.max_length, config.width)
        self.segment = nn.Embedding(2, config.width)
        self.embedding_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.shared = nn.ModuleList(Layer(config, config.ffn, config.shared_bits) for _ in range(config.shared_layers))

    def forward(self, tokens: Tensor, positions: Tensor, segments: Tensor, rows: Rows) -> Tensor:
        """Flat tokens, positions and segments [real] -> states [padded, width]."""
        return self.layer_states(tokens, positions, segments, rows)[-1]

    def layer_states(self, tokens: Tensor, positions: Tensor, segments: Tensor, rows: Rows) -> list[Tensor]:
        """The states [padded, width] before the first layer and after each."""
        table = self.embedding
        words = table.lookup(tokens) if isinstance(table, QuantizedEmbedding) else table(tokens)
        x = self.embedding_norm(words + self.position(positions) + self.segment(segments))
        states = [rows.fill_up(x)]
        for layer in self.shared:
            states.append(layer(states[-1], rows))
        return states


class RetrievalModel(nn.Module):
    """Texts and pictures as unit vectors of one space."""

    def __init__(self, config: LanguageConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.text = nn.ModuleList(
            Layer(config, config.ffn, config.bits, dropout=dropout) for _ in range(config.text_layers)
        )
        self.text_head = affine(config.width, config.embedding_width, config.head_bits)
        self.picture = Picture(config, config.picture_layers, config.picture_ffn, dropout)
        self.picture_head = affine(config.width, config.embedding_width, config.head_bits)

    def embed_texts(self, states: Tensor, rows: Rows) -> Tensor:
        """States of the shared layers [padded, width] -> unit vectors [texts, embedding_width]."""
        x = states
        for layer in self.text:
            x = layer(x, rows)
        return F.normalize(self.text_head(rows.mean(x)).float(), dim=-1)

    def embed_pictures(self, features: Tensor) -> Tensor:
        """Features [pictures, 49, 1280] -> unit vectors [pictures, embedding_width]."""
        x, rows = self.picture(features)
        return F.normalize(self.picture_head(rows.mean(x)).float(), dim=-1)


class QuestionModel(nn.Module):
    """Logits over a vocabulary of answers, and a score for an option that stands behind the question."""

    def __init__(self, config: LanguageConfig, answers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.grid = Picture(config, config.grid_layers, config.grid_ffn, dropout)
        self.question = nn.ModuleList(
            Layer(config, config.ffn, config.bits, sees=True, dropout=dropout) for _ in range(config.question_layers)
        )
        hidden = 2 * config.width
        self.question_pool = affine(config.width, hidden, config.head_bits)
        self.glimpse_q = affine(config.width, config.width, config.bits)
        self.glimpse_kv = affine(config.width, 2 * config.width, config.bits)
        self.glimpse_out = affine(config.width, hidden, config.bits)
        self.answer_head = affine(hidden, answers, config.head_bits)
        self.score_head = affine(hidden, 1, config.head_bits)
        self.drop = nn.Dropout(dropout)
        for name in ("grid.project", "glimpse_kv", "glimpse_out", "question_pool"):
            widen(self.get_submodule(name))

    def look(self, features: Tensor) -> Tensor:
        """Features [pictures, 49, 1280] -> the grid that questions look at [pictures, 49, width]."""
        x, rows = self.grid(features)
        return rows.unfold(x)

    def forward(self, states: Tensor, rows: Rows, memory: Tensor | None, owner: Tensor | None) -> tuple[Tensor, Tensor]:
        """States of the shared layers and the grids -> answers' logits [questions, answers] and scores [questions].

        Beside the layers' own looks, the whole question takes one glimpse at the grid: a short way from picture to
        answer, without which the first thousands of steps learn from the words alone.
        memory None leaves the picture out: the question-only model.
        """
        x = states
        for layer in self.question:
            x = layer(x, rows, memory, owner)
        pooled = rows.mean(x)
        hidden = self.question_pool(self.drop(pooled)).float()
        if memory is not None and owner is not None:
            keys, values = self.glimpse_kv(memory)[owner].chunk(2, dim=-1)
            seen = _attend(self.glimpse_q(pooled)[:, None], keys, values, self.config.heads, None)[:, 0]
            hidden = hidden + self.glimpse_out(self.drop(seen)).float()
        hidden = self.drop(F.gelu(hidden))
        return self.answer_head(hidden).float(), self.score_head(hidden)[:, 0].float()
