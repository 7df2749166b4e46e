"""Turns texts into word pieces, and word pieces into cached states of the frozen shared layers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.quantization.fast_types import fast_products
from mobile_multimodal.training.caption_model import FULL_PRECISION
from mobile_multimodal.training.language_model import Rows, SharedText

CLS, SEP = "[CLS]", "[SEP]"
# A text, or a question with an option behind it, in the forms of `question_form` and `statement_form`.
Text = str | tuple[str, str]
_SPACES = " \t\n\v\f\r"


def has_words(text: str) -> bool:
    """Whether a text has more than spaces and the marks that its form loses."""
    return bool(text.strip(_SPACES + ".?!"))


def statement_form(text: str) -> str:
    """An option or a text to embed as the core splits it: no spaces around it, no full stops at its end."""
    form = text.lstrip(_SPACES).rstrip(_SPACES + ".")
    if not form:
        raise InvalidInputError(f"the text {text!r} is empty", hint="write at least one word")
    return form


def question_form(text: str) -> str:
    """A question as the core splits it: no spaces around it, and one ? in place of what marks stand at its end."""
    form = text.lstrip(_SPACES).rstrip(_SPACES + ".?!")
    if not form:
        raise InvalidInputError(f"the question {text!r} is empty", hint="write at least one word")
    return form + "?"


class WordPieces:
    """BERT's uncased word pieces over a vocabulary; a pair is a question and an option."""

    def __init__(self, vocabulary: Sequence[str], max_length: int) -> None:
        from tokenizers import BertWordPieceTokenizer

        self.vocabulary = list(vocabulary)
        ids = {piece: index for index, piece in enumerate(self.vocabulary)}
        self._tokenizer = BertWordPieceTokenizer(ids, lowercase=True)
        self._cls, self._sep = ids[CLS], ids[SEP]
        self._max_length = max_length

    def encode(self, text: Text) -> tuple[list[int], list[int]]:
        """Tokens and segments: [CLS] text [SEP], or [CLS] question [SEP] option [SEP] with the option in segment 1.

        Too long a text is cut; in a pair the question keeps at least half of the room.
        """
        if isinstance(text, str):
            pieces = self._pieces(text)[: self._max_length - 2]
            return [self._cls, *pieces, self._sep], [0] * (len(pieces) + 2)
        room = self._max_length - 3
        first, second = self._pieces(text[0]), self._pieces(text[1])
        first = first[: max(room - room // 2, room - len(second))]
        second = second[: room - len(first)]
        tokens = [self._cls, *first, self._sep, *second, self._sep]
        return tokens, [0] * (len(first) + 2) + [1] * (len(second) + 1)

    def _pieces(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


@dataclass(frozen=True)
class TextBatch:
    """Texts as flat tokens, positions and segments [real], and where they stand."""

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    rows: Rows

    @staticmethod
    def of(tokens: Sequence[Sequence[int]], segments: Sequence[Sequence[int]]) -> TextBatch:
        return TextBatch(
            torch.tensor([token for entry in tokens for token in entry]),
            torch.tensor([place for entry in tokens for place in range(len(entry))]),
            torch.tensor([kind for entry in segments for kind in entry]),
            Rows.of(torch.tensor([len(entry) for entry in tokens])),
        )


class TextStates:
    """States of the shared layers for many texts, float16 in memory; each text is computed once."""

    def __init__(self, model: SharedText, pieces: WordPieces) -> None:
        self._model, self._pieces = model.eval(), pieces
        self._width = model.config.width
        self._states: list[NDArray[np.float16]] = []
        self._places: dict[Text, int] = {}

    def add(self, texts: Sequence[Text], batch: int = 256) -> None:
        """Computes the states of texts that are not there yet; texts of like length go together."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._places]
        encoded = [(text, *self._pieces.encode(text)) for text in fresh]
        encoded.sort(key=lambda entry: len(entry[1]))
        for start in tqdm(range(0, len(encoded), batch), desc="text states", mininterval=5, disable=not encoded):
            chosen = encoded[start : start + batch]
            states, rows = self._compute([tokens for _, tokens, _ in chosen], [segments for _, _, segments in chosen])
            flat = states[: rows.real].numpy().astype(np.float16)
            offset = 0
            for text, tokens, _ in chosen:
                self._places[text] = len(self._states)
                self._states.append(flat[offset : offset + len(tokens)])
                offset += len(tokens)

    @torch.no_grad()
    def _compute(self, tokens: list[list[int]], segments: list[list[int]]) -> tuple[Tensor, Rows]:
        batch = TextBatch.of(tokens, segments)
        # bf16 halves the time of the float layers; the low-bit ones are faster in the core's own integers.
        is_float = self._model.config.shared_bits == FULL_PRECISION
        with fast_products() if is_float else nullcontext():
            states = self._model(batch.tokens, batch.positions, batch.segments, batch.rows)
        return states.float(), batch.rows

    def read(self, texts: Sequence[Text]) -> tuple[Tensor, Rows]:
        """States [padded, width] of texts that were added, and where they stand."""
        chosen = [self._states[self._places[text]] for text in texts]
        rows = Rows.of(torch.tensor([len(states) for states in chosen]))
        flat = torch.from_numpy(np.concatenate(chosen)).float()
        return rows.fill_up(flat), rows

    def means(self, texts: Sequence[Text]) -> Tensor:
        """The mean of each text's states, [texts, width]."""
        rows = [self._states[self._places[text]].mean(axis=0, dtype=np.float32) for text in texts]
        return torch.from_numpy(np.stack(rows))
