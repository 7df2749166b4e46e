"""Appends the layers of a language tower to programs: post-norm layers, the word table, the view of a picture."""

from __future__ import annotations

import numpy as np

from mobile_multimodal.compile.language_checkpoint import LanguageCheckpoint
from mobile_multimodal.compile.pack import linear, matrix_tensors
from mobile_multimodal.compile.program import ProgramBuilder, Value
from mobile_multimodal.compile.weight_codes import QuantizedMatrix, first_rows
from mobile_multimodal.model.program import ACTIVATIONS

SECTION = "language"
GELU = ACTIVATIONS.index("gelu")


class LanguageLayers:
    """Looks weights up and appends the instructions that use them; tensors are named `language.<parameter>`.

    Programs that share a layer share its tensors: the store keeps equal names once.
    """

    def __init__(self, checkpoint: LanguageCheckpoint, bits_override: int | None) -> None:
        self._checkpoint = checkpoint
        self._shape = checkpoint.shape
        self._override = bits_override

    def bits_of(self, trained: int) -> int:
        """The bits of a matrix that was trained with so many."""
        return trained if self._override is None else self._override

    def linear(
        self,
        builder: ProgramBuilder,
        name: str,
        x: Value,
        size: tuple[int, int],
        bits: int,
        *,
        residual: Value | None = None,
        activation: int = 0,
    ) -> Value:
        """activation(x W^T + bias) + residual; size is (outputs, inputs)."""
        weight = self._checkpoint.matrix(name, *size, bits, self._override)
        bias = self._checkpoint.vector(f"{name}.bias", size[0])
        return linear(builder, f"{SECTION}.{name}", x, weight, bias=bias, residual=residual, activation=activation)

    def norm(self, builder: ProgramBuilder, name: str, x: Value, width: int | None = None) -> Value:
        size = self._shape.width if width is None else width
        parts = [
            builder.tensor(f"{SECTION}.{name}.{part}", self._checkpoint.vector(f"{name}.{part}", size))
            for part in ("weight", "bias")
        ]
        return builder.apply("layer_norm", [x, *parts], [self._shape.norm_eps])

    def embed(self, builder: ProgramBuilder, tokens: Value, positions: Value, segments: Value | None = None) -> Value:
        """Word row + position row + segment row, normalised; without segments all are of segment 0.

        Positions hold segment 0's row already, and segments what the other one adds to it: the same sums, and a text
        of one segment needs no look-up for it.
        """
        shape, section = self._shape, SECTION
        x = self._words(builder, tokens)
        segment_rows = self._checkpoint.array("segment.weight", 2, shape.width)
        places = self._checkpoint.array("position.weight", shape.max_length, shape.width) + segment_rows[0]
        table = builder.tensor(f"{section}.position.table", places)
        x = builder.apply("add", [x, builder.apply("embedding_f32", [positions, table])])
        if segments is not None:
            table = builder.tensor(f"{section}.segment.table", segment_rows - segment_rows[0])
            x = builder.apply("add", [x, builder.apply("embedding_f32", [segments, table])])
        return self.norm(builder, "embedding_norm", x)

    def layer(
        self, builder: ProgramBuilder, name: str, x: Value, ffn: int, bits: int, memory: int | None = None
    ) -> Value:
        """Attention among the rows, then over a state if `memory` names one, then the feed-forward half."""
        width, heads = self._shape.width, (self._shape.heads, self._shape.heads, self._shape.head_dim)
        square = (width, width)
        qkv = self.linear(builder, f"{name}.qkv", x, (3 * width, width), bits)
        mixed = builder.apply("attention", [qkv], heads)
        x = self.linear(builder, f"{name}.out", mixed, square, bits, residual=x)
        x = self.norm(builder, f"{name}.attention_norm", x)
        if memory is not None:
            mixed = self.look(builder, f"{name}.cross_q", x, memory)
            x = self.linear(builder, f"{name}.cross_out", mixed, square, bits, residual=x)
        up = self.linear(builder, f"{name}.up", x, (ffn, width), bits, activation=GELU)
        x = self.linear(builder, f"{name}.down", up, (width, ffn), bits, residual=x)
        return self.norm(builder, f"{name}.ffn_norm", x)

    def look(self, builder: ProgramBuilder, query: str, x: Value, memory: int) -> Value:
        """Attention of the rows of x over the keys and values in a state; `query` names what turns x into queries."""
        heads = (self._shape.heads, self._shape.heads, self._shape.head_dim)
        q = self.linear(builder, query, x, (self._shape.width, self._shape.width), self._shape.bits)
        return builder.apply("attention_memory", [q], [memory, *heads])

    def shared_text(
        self, builder: ProgramBuilder, tokens: Value, positions: Value, segments: Value | None = None
    ) -> Value:
        """The word table and the layers that retrieval and questions have in common."""
        x = self.embed(builder, tokens, positions, segments)
        for index in range(self._shape.shared_layers):
            x = self.layer(builder, f"shared.{index}", x, self._shape.ffn, self._shape.shared_bits)
        return x

    def grid(self, builder: ProgramBuilder, features: Value) -> Value:
        """Features [length, feature_width] or [h, w, feature_width] -> rows to look at [length, width]."""
        shape = self._shape
        rows = builder.apply("reshape", [features], [-1, shape.feature_width])
        places = self._checkpoint.array("grid_position", shape.feature_length, shape.width)
        position = builder.tensor(f"{SECTION}.grid_position", places)
        size = (shape.width, shape.feature_width)
        x = self.linear(builder, "grid_project", rows, size, shape.project_bits, residual=position)
        return self.norm(builder, "grid_norm", x)

    def mean(self, builder: ProgramBuilder, x: Value, width: int) -> Value:
        """The mean of the rows, [1, width]."""
        pooled = builder.apply("global_average_pool", [builder.apply("reshape", [x], [-1, 1, width])])
        return builder.apply("reshape", [pooled], [1, width])

    def _words(self, builder: ProgramBuilder, tokens: Value) -> Value:
        shape = self._shape
        table = self._checkpoint.matrix(
            "embedding", shape.vocab_size, shape.width, shape.embedding_bits, self._override
        )
        table = first_rows(table, len(self._checkpoint.vocabulary))
        if isinstance(table, QuantizedMatrix):
            packed, scale = matrix_tensors(builder, f"{SECTION}.embedding", table)
            return builder.apply("embedding", [tokens, packed, scale], [table.bits, table.n, table.k, table.zero2])
        rows = builder.tensor(f"{SECTION}.embedding.table", np.ascontiguousarray(table))
        return builder.apply("embedding_f32", [tokens, rows])
