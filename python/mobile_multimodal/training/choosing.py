"""Trains choosers on questions with options, and makes several of them one teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mobile_multimodal.training.language_sets import AskedQuestion, names_a_side
from mobile_multimodal.training.language_text import TextStates
from mobile_multimodal.training.picture_features import PictureFeatures
from mobile_multimodal.training.pooled_chooser import PooledChooser
from mobile_multimodal.training.question_batches import QuestionBatch
from mobile_multimodal.training.question_dev import HEADLINE, DevFigures
from mobile_multimodal.training.question_objectives import option_loss, option_table


@dataclass(frozen=True)
class ChoiceBatch:
    """Mean states of questions with an option behind [options, width], and of each the picture's [options, 1280].

    option_counts [choices] and right [choices]: how many options each choice has and which is right.
    """

    texts: Tensor
    pictures: Tensor
    option_counts: Tensor
    right: Tensor


class ChoiceBatches:
    """Passes over questions with options; `states` has their pairs."""

    def __init__(self, pictures: PictureFeatures, states: TextStates, choices: Sequence[AskedQuestion]) -> None:
        self._pictures, self._states, self._choices = pictures, states, list(choices)

    def __len__(self) -> int:
        return len(self._choices)

    def batches(self, size: int, random: np.random.Generator) -> Iterator[ChoiceBatch]:
        """One pass in random order."""
        order = random.permutation(len(self._choices))
        for start in range(0, len(order), size):
            chosen = [self._choices[place] for place in order[start : start + size]]
            sided = [any(names_a_side(pair) for pair in question.pairs) for question in chosen]
            yield self._batch(chosen, self._pictures.draw_views([q.picture for q in chosen], sided, random))

    def whole(self) -> ChoiceBatch:
        """All questions in their order, of the plain views."""
        return self._batch(self._choices, [0] * len(self._choices))

    def _batch(self, chosen: Sequence[AskedQuestion], views: Sequence[int]) -> ChoiceBatch:
        counts = torch.tensor([len(question.options) for question in chosen])
        return ChoiceBatch(
            self._states.means([pair for question in chosen for pair in question.pairs]),
            self._pictures.read_means([q.picture for q in chosen], views).repeat_interleave(counts, dim=0),
            counts,
            torch.tensor([question.right for question in chosen]),
        )


class ChoiceObjective:
    """Cross-entropy over each question's options."""

    def __init__(self, smoothing: float = 0.0) -> None:
        """smoothing: see option_loss."""
        self._smoothing = smoothing

    def loss(self, model: PooledChooser, batch: ChoiceBatch) -> tuple[Tensor, float]:
        scores = model(batch.texts, batch.pictures)
        loss = option_loss(scores, batch.option_counts, batch.right, self._smoothing)
        return loss, loss.item()


class ChooserDev:
    """Callable model -> the share of right choices on dev."""

    def __init__(self, choices: ChoiceBatches) -> None:
        self._batch = choices.whole()

    @torch.no_grad()
    def __call__(self, model: PooledChooser) -> DevFigures:
        model.eval()
        batch = self._batch
        table = option_table(model(batch.texts, batch.pictures), batch.option_counts)
        return DevFigures({HEADLINE: round(float((table.argmax(dim=1) == batch.right).float().mean()), 4)})


class ChooserMean:
    """The mean log-probabilities of several choosers, as a teacher."""

    def __init__(self, choosers: Sequence[PooledChooser], states: TextStates) -> None:
        self._choosers, self._states = [chooser.eval() for chooser in choosers], states

    def log_shares(self, batch: QuestionBatch, count: int) -> Tensor:
        counts = batch.option_counts[:count]
        options = int(counts.sum())
        texts = self._states.means(batch.texts[:options])
        pictures = batch.features.mean(dim=1)[batch.owner[:options]]
        tables = [option_table(chooser(texts, pictures), counts) for chooser in self._choosers]
        return torch.stack([table.log_softmax(dim=1) for table in tables]).mean(dim=0)
