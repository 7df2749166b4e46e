"""The language tower: text for questions and for retrieval, and the two views of a picture that it meets.

Three modules train apart and share one file: `SharedText` (MiniLM-L6, Wang et al., arXiv 2002.10957), `RetrievalModel`
(texts and pictures as vectors of one space) and `QuestionModel` (a question that looks at the picture's grid). Layers
are BERT's: post-norm, biases, GELU, full attention.
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
    shared_layers: int = 6
    question_layers: int = 1
    question_ffn: int = 768
    text_hidden: int = 1024
    picture_hidden: int = 2048
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
    # Sentences that tell how popular a picture is with any sentence (compile/popularity.py), one a picture of training;
    # the stage `popularity` sets it. 0: none.
    popularity_rows: int = 0

    def __post_init__(self) -> None:
        for name in (
            "width",
            "ffn",
            "question_ffn",
            "text_hidden",
            "picture_hidden",
            "feature_width",
            "embedding_width",
        ):
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


def widened(inputs: int, outputs: int, bits: int, gain: float = 1.0) -> nn.Module:
    """`affine` whose first weights keep the size of what passes: for what does not start from BERT's weights."""
    layer = affine(inputs, outputs, bits)
    nn.init.normal_(layer.get_parameter("weight"), std=gain * inputs**-0.5)
    if isinstance(layer, QuantizedLinear):
        layer.reset_scale()
    return layer


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


def attend_heads(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None) -> Tensor:
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
        mixed = rows.fold(attend_heads(q, k, v, self.heads, rows.mask()))
        x = self.attention_norm(x.float() + self.drop(self.out(mixed)).float())
        if self.sees and memory is not None and owner is not None:
            keys, values = self.cross_kv(memory)[owner].chunk(2, dim=-1)
            mixed = rows.fold(attend_heads(rows.unfold(self.cross_q(x)), keys, values, self.heads, None))
            x = x + self.drop(self.cross_out(mixed)).float()
        return self.ffn_norm(x + self.drop(self.down(F.gelu(self.up(x)))).float())


@torch.no_grad()
def start_fresh(layer: nn.Module) -> None:
    """First weights of a layer that has none from BERT; what it adds to its rows starts at half the size."""
    for name, module in layer.named_modules():
        if "weight" in dict(module.named_parameters(recurse=False)) and module.get_parameter("weight").ndim == 2:
            weight = module.get_parameter("weight")
            gain = 0.5 if name in ("out", "down", "cross_out") else 1.0
            nn.init.normal_(weight, std=gain * weight.shape[1] ** -0.5)
            if isinstance(module, QuantizedLinear):
                module.reset_scale()


class SharedText(nn.Module):
    """Word table and layers of the text tower, common to retrieval and questions."""

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
    """Texts and pictures as unit vectors of one space: a small network over the mean of each one's rows."""

    def __init__(self, config: LanguageConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.text_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.text_up = widened(config.width, config.text_hidden, config.bits)
        self.text_head = widened(config.text_hidden, config.embedding_width, config.head_bits)
        self.picture_norm = nn.LayerNorm(config.feature_width, eps=config.norm_eps)
        self.picture_up = widened(config.feature_width, config.picture_hidden, config.bits)
        self.picture_head = widened(config.picture_hidden, config.embedding_width, config.head_bits)
        self.drop = nn.Dropout(dropout)

    def embed_texts(self, means: Tensor) -> Tensor:
        """Means of the shared layers' states [texts, width] -> unit vectors [texts, embedding_width]."""
        hidden = self.drop(F.gelu(self.text_up(self.text_norm(means)).float()))
        return F.normalize(self.text_head(hidden).float(), dim=-1)

    def embed_pictures(self, means: Tensor) -> Tensor:
        """Means of features over the grid [pictures, feature_width] -> unit vectors [pictures, embedding_width]."""
        hidden = self.drop(F.gelu(self.picture_up(self.picture_norm(means)).float()))
        return F.normalize(self.picture_head(hidden).float(), dim=-1)


class QuestionModel(nn.Module):
    """Logits over a vocabulary of answers, and a score for an option that stands behind the question."""

    def __init__(self, config: LanguageConfig, answers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.width, 2 * config.width
        self.grid_project = widened(config.feature_width, width, config.project_bits)
        self.grid_position = nn.Parameter(torch.randn(config.feature_length, width) * 0.02)
        self.grid_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.question = nn.ModuleList(
            Layer(config, config.question_ffn, config.bits, sees=True, dropout=dropout)
            for _ in range(config.question_layers)
        )
        for layer in self.question:
            start_fresh(layer)
        self.question_pool = widened(width, hidden, config.head_bits)
        self.glimpse_q = affine(width, width, config.bits)
        self.glimpse_kv = widened(width, 2 * width, config.bits)
        self.glimpse_out = widened(width, hidden, config.bits)
        self.answer_head = affine(hidden, answers, config.head_bits)
        self.score_head = affine(hidden, 1, config.head_bits)
        self.drop = nn.Dropout(dropout)

    def look(self, features: Tensor) -> Tensor:
        """Features [pictures, 49, 1280] -> the grid that questions look at [pictures, 49, width]."""
        x = self.grid_project(features).float() + self.grid_position
        return self.drop(self.grid_norm(x))

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
            seen = attend_heads(self.glimpse_q(pooled)[:, None], keys, values, self.config.heads, None)[:, 0]
            hidden = hidden + self.glimpse_out(self.drop(seen)).float()
        hidden = self.drop(F.gelu(hidden))
        return self.answer_head(hidden).float(), self.score_head(hidden)[:, 0].float()
