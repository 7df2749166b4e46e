"""Teaches the low-bit shared layers to give the states of the float ones, layer by layer, on every text of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mobile_multimodal.quantization.fast_types import fast_products
from mobile_multimodal.training.language_model import SharedText
from mobile_multimodal.training.language_text import Text, TextBatch, WordPieces
from mobile_multimodal.training.question_dev import DevFigures

# Each so-manieth batch is of random words, so that the layers keep to the teacher where training's texts do not go.
_RANDOM_WORDS_EVERY = 8
_WORDS_IN_A_TEXT = (1, 12)
# Texts are sorted by length within such a stretch of a pass: little padding, and still a random order.
_STRETCH = 4096
_AT_ONCE = 256
HEADLINE = "relative_error"


class TextBatches:
    """Texts in batches of like length, and between them random words."""

    def __init__(self, texts: Sequence[Text], pieces: WordPieces) -> None:
        self._texts = [pieces.encode(text) for text in texts]
        self._pieces = pieces
        self._words = [word for word in pieces.vocabulary if word.isalpha() and len(word) > 2]

    def __len__(self) -> int:
        return len(self._texts)

    def batches(self, size: int, random: np.random.Generator) -> Iterator[TextBatch]:
        """One pass in random order."""
        order = random.permutation(len(self._texts))
        stretches = [order[start : start + _STRETCH] for start in range(0, len(order), _STRETCH)]
        alike = [sorted(stretch.tolist(), key=lambda place: len(self._texts[place][0])) for stretch in stretches]
        batches = [stretch[start : start + size] for stretch in alike for start in range(0, len(stretch), size)]
        for number, place in enumerate(random.permutation(len(batches)), start=1):
            encoded = [self._texts[text] for text in batches[place]]
            yield TextBatch.of([tokens for tokens, _ in encoded], [segments for _, segments in encoded])
            if number % (_RANDOM_WORDS_EVERY - 1) == 0:
                yield self._random_words(size, random)

    def _random_words(self, size: int, random: np.random.Generator) -> TextBatch:
        texts = []
        for length in random.integers(*_WORDS_IN_A_TEXT, size=size, endpoint=True):
            places = random.integers(len(self._words), size=length)
            texts.append(self._pieces.encode(" ".join(self._words[place] for place in places)))
        return TextBatch.of([tokens for tokens, _ in texts], [segments for _, segments in texts])


def layer_errors(student: SharedText, teacher: SharedText, batch: TextBatch) -> list[Tensor]:
    """mean((student - teacher)^2) / variance(teacher) of the states after each layer."""
    parts = (batch.tokens, batch.positions, batch.segments, batch.rows)
    real = batch.rows.real
    with fast_products():
        with torch.no_grad():
            taught = [states[:real].float() for states in teacher.layer_states(*parts)[1:]]
        learned = [states[:real].float() for states in student.layer_states(*parts)[1:]]
    return [(a - b).square().mean() / b.var() for a, b in zip(learned, taught, strict=True)]


class StatesObjective:
    """The layers' errors, those before the last with a share (hints of Romero et al., arXiv 1412.6550)."""

    def __init__(self, teacher: SharedText, earlier_share: float) -> None:
        self._teacher, self._earlier_share = teacher.eval(), earlier_share

    def loss(self, model: SharedText, batch: TextBatch) -> tuple[Tensor, float]:
        *earlier, last = layer_errors(model, self._teacher, batch)
        loss = last + self._earlier_share * torch.stack([*earlier, last.new_zeros(())]).sum()
        return loss, last.item()


class StatesDev:
    """Callable model -> the errors on dev texts; `relative_error` is that of the last layer."""

    def __init__(self, teacher: SharedText, texts: Sequence[Text], pieces: WordPieces) -> None:
        self._teacher = teacher.eval()
        encoded = [pieces.encode(text) for text in texts]
        encoded.sort(key=lambda entry: len(entry[0]))
        parts = [encoded[start : start + _AT_ONCE] for start in range(0, len(encoded), _AT_ONCE)]
        self._batches = [TextBatch.of([t for t, _ in part], [s for _, s in part]) for part in parts]

    @torch.no_grad()
    def __call__(self, model: SharedText) -> DevFigures:
        model.eval()
        errors = torch.tensor([[float(e) for e in layer_errors(model, self._teacher, b)] for b in self._batches])
        weights = torch.tensor([float(batch.rows.real) for batch in self._batches])
        means = ((errors * weights[:, None]).sum(dim=0) / weights.sum()).tolist()
        return DevFigures({HEADLINE: round(means[-1], 5), "layers": [round(mean, 5) for mean in means]})
