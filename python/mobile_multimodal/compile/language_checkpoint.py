"""Reads a trained language tower from its checkpoint: shape, weights, word pieces and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobile_multimodal.compile.trained_weights import TrainedWeights, load_checkpoint
from mobile_multimodal.errors import ModelFormatError

UNANSWERABLE = "unanswerable"  # answer 0: the picture does not tell
_CONTROL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_LEAST_LENGTH = 5  # [CLS] question [SEP] option [SEP] with a word of each
_HINT = "pass a checkpoint of a language tower."


@dataclass(frozen=True)
class LanguageShape:
    """The shape and bit widths of a tower, by the names of the checkpoint's `config`.

    bits        of the layers' matrices, but for those of the shared layers (shared_bits), what turns features into rows
                (project_bits), the heads (head_bits) and the word table (embedding_bits)
    popularity_rows   sentences that tell how popular a picture is with any sentence (compile/popularity.py); 0: none
    """

    vocab_size: int
    width: int
    heads: int
    ffn: int
    shared_layers: int
    question_layers: int
    question_ffn: int
    text_hidden: int
    picture_hidden: int
    max_length: int
    norm_eps: float
    feature_width: int
    feature_length: int
    embedding_width: int
    bits: int
    shared_bits: int
    head_bits: int
    project_bits: int
    embedding_bits: int
    popularity_rows: int

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Columns of what the heads for answers and scores read."""
        return 2 * self.width


@dataclass(frozen=True)
class LanguageCheckpoint(TrainedWeights):
    """A trained tower; `vocabulary` lists the word pieces by id, `answers` what its classes mean."""

    shape: LanguageShape
    vocabulary: tuple[str, ...]
    answers: tuple[str, ...]
    meta: Mapping[str, Any]


def load_language_checkpoint(path: Path) -> LanguageCheckpoint:
    """Reads a checkpoint and checks its lists; runs no code from the file."""
    content = load_checkpoint(path, {"vocabulary", "answers", "meta"}, LanguageShape, _HINT)
    shape: LanguageShape = content["config"]
    vocabulary = tuple(content["vocabulary"].rstrip("\n").split("\n"))
    answers = tuple(content["answers"])
    _check_names(path, "word pieces", vocabulary)
    _check_names(path, "answers", answers)
    missing = [piece for piece in _CONTROL_PIECES if piece not in vocabulary]
    _require(path, not missing, f"its word pieces lack {', '.join(missing)}")
    _require(
        path, len(vocabulary) <= shape.vocab_size, f"{len(vocabulary)} word pieces for a table of {shape.vocab_size}"
    )
    _require(
        path, len(answers) > 1 and answers[0] == UNANSWERABLE, f"its first of several answers is not '{UNANSWERABLE}'"
    )
    _require(path, shape.max_length >= _LEAST_LENGTH, f"texts of {shape.max_length} tokens cannot hold a question")
    _require(
        path,
        shape.width % shape.heads == 0 and shape.head_dim % 4 == 0,
        f"a width of {shape.width} does not split into {shape.heads} heads of a multiple of 4",
    )
    return LanguageCheckpoint(content["state_dict"], _HINT, shape, vocabulary, answers, content["meta"])


def _check_names(path: Path, what: str, names: tuple[str, ...]) -> None:
    _require(path, all(isinstance(name, str) and name for name in names), f"one of its {what} is empty or no text")
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    _require(path, not repeated, f"its {what} repeat {', '.join(repeated[:3])}")


def _require(path: Path, is_right: bool, complaint: str) -> None:
    if not is_right:
        raise ModelFormatError(f"{path} is not a language tower: {complaint}", hint=_HINT)
