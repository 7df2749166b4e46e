"""Builds the four programs of a language tower: `embed_text`, `embed_image`, `prepare_question`, `answer_question`.

`prepare_question` writes what the question layers look at into states, once per picture; `answer_question` then takes
one question, alone or with an option behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mobile_multimodal.compile.container import Metadata
from mobile_multimodal.compile.language_checkpoint import LanguageCheckpoint, LanguageShape
from mobile_multimodal.compile.language_layers import GELU, LanguageLayers
from mobile_multimodal.compile.popularity import NUMBERS, append_to_picture, append_to_text, unit
from mobile_multimodal.compile.program import ProgramBuilder, State, TensorStore, Value
from mobile_multimodal.model.program import Program


@dataclass(frozen=True)
class LanguageTower:
    """The programs, their states in the order in which instructions number them, and what they read and answer."""

    programs: tuple[Program, ...]
    states: tuple[State, ...]
    vocabulary: tuple[str, ...]
    answers: tuple[str, ...]
    max_length: int

    def add_to(self, metadata: Metadata) -> None:
        """Adds the keys of word pieces, answers and length."""
        metadata.strings("mm.wordpiece.tokens", self.vocabulary)
        metadata.strings("mm.answers", self.answers)
        metadata.u32("mm.text.max_length", self.max_length)


def build_language_tower(
    checkpoint: LanguageCheckpoint, tensors: TensorStore, *, first_state: int = 0, bits_override: int | None = None
) -> LanguageTower:
    """Compiles a checkpoint.

    first_state: how many states the file has before these.
    bits_override: 32 for the float twin, 2, 4 or 8 to quantize every matrix anew.
    """
    shape = checkpoint.shape
    layers = LanguageLayers(checkpoint, bits_override)
    names = [*(f"question.{index}.memory" for index in range(shape.question_layers)), "question.glimpse.memory"]
    return LanguageTower(
        programs=(
            _build_embed_text(shape, layers, ProgramBuilder("embed_text", tensors)),
            _build_embed_image(checkpoint, layers, ProgramBuilder("embed_image", tensors)),
            _build_prepare_question(shape, layers, ProgramBuilder("prepare_question", tensors), first_state),
            _build_answer_question(
                shape, layers, ProgramBuilder("answer_question", tensors), first_state, len(checkpoint.answers)
            ),
        ),
        states=tuple(State(name, "memory", 2 * shape.width, shape.feature_length) for name in names),
        vocabulary=checkpoint.vocabulary,
        answers=checkpoint.answers,
        max_length=shape.max_length,
    )


def _build_embed_text(shape: LanguageShape, layers: LanguageLayers, builder: ProgramBuilder) -> Program:
    x = layers.shared_text(builder, builder.input("tokens", "i32"), builder.input("positions", "i32"))
    y = _embed(shape, layers, builder, "text", layers.mean(builder, x, shape.width), shape.text_hidden)
    if shape.popularity_rows:
        y = append_to_text(builder, unit(builder, "text", y, shape.embedding_width))
    return _finish_embedding(shape, builder, y)


def _build_embed_image(checkpoint: LanguageCheckpoint, layers: LanguageLayers, builder: ProgramBuilder) -> Program:
    shape = checkpoint.shape
    mean = layers.mean(builder, builder.input("features", "f32"), shape.feature_width)
    y = _embed(shape, layers, builder, "picture", mean, shape.picture_hidden)
    if shape.popularity_rows:
        y = unit(builder, "picture", y, shape.embedding_width)
        bits = layers.bits_of(shape.head_bits)
        y = append_to_picture(builder, checkpoint, y, shape.popularity_rows, shape.embedding_width, bits)
    return _finish_embedding(shape, builder, y)


def _embed(
    shape: LanguageShape, layers: LanguageLayers, builder: ProgramBuilder, side: str, mean: Value, hidden: int
) -> Value:
    width = shape.width if side == "text" else shape.feature_width
    x = layers.norm(builder, f"{side}_norm", mean, width)
    x = layers.linear(builder, f"{side}_up", x, (hidden, width), shape.bits, activation=GELU)
    return layers.linear(builder, f"{side}_head", x, (shape.embedding_width, hidden), shape.head_bits)


def _finish_embedding(shape: LanguageShape, builder: ProgramBuilder, y: Value) -> Program:
    width = shape.embedding_width + (NUMBERS if shape.popularity_rows else 0)
    builder.output("embedding", builder.apply("reshape", [y], [width]))
    return builder.finish()


def _build_prepare_question(
    shape: LanguageShape, layers: LanguageLayers, builder: ProgramBuilder, first_state: int
) -> Program:
    grid = layers.grid(builder, builder.input("features", "f32"))
    names = [*(f"question.{index}.cross_kv" for index in range(shape.question_layers)), "glimpse_kv"]
    for index, name in enumerate(names):
        keys_values = layers.linear(builder, name, grid, (2 * shape.width, shape.width), shape.bits)
        builder.emit("state_write", [keys_values], [first_state + index])
    return builder.finish()


def _build_answer_question(
    shape: LanguageShape, layers: LanguageLayers, builder: ProgramBuilder, first_state: int, answers: int
) -> Program:
    tokens, positions, segments = (builder.input(name, "i32") for name in ("tokens", "positions", "segments"))
    x = layers.shared_text(builder, tokens, positions, segments)
    for index in range(shape.question_layers):
        x = layers.layer(builder, f"question.{index}", x, shape.question_ffn, shape.bits, memory=first_state + index)
    pooled = layers.mean(builder, x, shape.width)
    hidden = layers.linear(builder, "question_pool", pooled, (shape.hidden, shape.width), shape.head_bits)
    seen = layers.look(builder, "glimpse_q", pooled, first_state + shape.question_layers)
    hidden = layers.linear(builder, "glimpse_out", seen, (shape.hidden, shape.width), shape.bits, residual=hidden)
    hidden = builder.apply("activation", [hidden], [GELU])
    for output, head, count in (("answers", "answer_head", answers), ("score", "score_head", 1)):
        y = layers.linear(builder, head, hidden, (count, shape.hidden), shape.head_bits)
        builder.output(output, builder.apply("reshape", [y], [count]))
    return builder.finish()
