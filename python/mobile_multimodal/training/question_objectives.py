"""What a step of the question model minimises: cross-entropies by kind of question, and imitation of its twin."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from mobile_multimodal.training.language_model import QuestionModel
from mobile_multimodal.training.language_text import TextStates
from mobile_multimodal.training.question_batches import QuestionBatch

# Stands for the score of an option that is not there: its probability is 0, and 0 * log of it stays a number.
_NO_SCORE = -1e4
# The answers' share in imitation, against that of the options' scores (Hinton et al., arXiv 1503.02531).
_ANSWERS_WEIGHT = 2.0


def option_table(scores: Tensor, counts: Tensor) -> Tensor:
    """Scores of all options [options] -> [choices, most options], padded where a choice has fewer."""
    rows = list(scores.split(counts.tolist()))
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=_NO_SCORE)


def option_loss(scores: Tensor, counts: Tensor, right: Tensor) -> Tensor:
    """-log of the right option's share in the softmax over its question's scores, mean over the choices."""
    return F.cross_entropy(option_table(scores, counts), right)


def answer_losses(logits: Tensor, targets: Tensor, parts: list[str]) -> dict[str, Tensor]:
    """Mean cross-entropy of each kind of question that a batch has; logits [questions, answers]."""
    each = F.cross_entropy(logits, targets, reduction="none")
    return {part: each[torch.tensor([p == part for p in parts])].mean() for part in dict.fromkeys(parts)}


def ask(
    model: QuestionModel, states: TextStates, batch: QuestionBatch, features: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scores of the options [options] and logits of the questions behind them [questions, answers]."""
    x, rows = states.read(batch.texts)
    with torch.autocast("cpu", torch.bfloat16):
        memory = None if features is None else model.look(features)
        logits, scores = model(x, rows, memory, None if features is None else batch.owner)
    return scores[: batch.options], logits[batch.options :]


class QuestionObjective:
    """Weighted sum of the losses; with `sees_pictures` false, the model has to guess from the words."""

    def __init__(
        self,
        states: TextStates,
        weights: Mapping[str, float],
        options_weight: float = 1.0,
        sees_pictures: bool = True,
        hidden_cells: float = 0.0,
    ) -> None:
        """hidden_cells: the share of a picture's 49 cells that is zeroed, anew in each step."""
        self._states, self._weights, self._options_weight = states, weights, options_weight
        self._sees_pictures, self._hidden_cells = sees_pictures, hidden_cells

    def loss(self, model: QuestionModel, batch: QuestionBatch) -> tuple[Tensor, float]:
        scores, logits = ask(model, self._states, batch, self._features(batch))
        loss = self.of(scores, logits, batch)
        return loss, loss.item()

    def of(self, scores: Tensor, logits: Tensor, batch: QuestionBatch) -> Tensor:
        """The loss of scores [options] and logits [questions, answers]."""
        losses = answer_losses(logits, batch.targets, batch.parts)
        total = torch.stack([self._weights[part] * loss for part, loss in losses.items()]).sum()
        if batch.options:
            total = total + self._options_weight * option_loss(scores, batch.option_counts, batch.right)
        return total

    def _features(self, batch: QuestionBatch) -> Tensor | None:
        return hide_cells(batch.features, self._hidden_cells) if self._sees_pictures else None


class QuestionImitation:
    """The twin's probabilities over options and answers, with a share of the plain loss."""

    def __init__(
        self,
        plain: QuestionObjective,
        states: TextStates,
        teacher: QuestionModel,
        teacher_states: TextStates,
        plain_share: float,
    ) -> None:
        self._plain, self._states, self._plain_share = plain, states, plain_share
        self._teacher, self._teacher_states = teacher.eval(), teacher_states

    def loss(self, model: QuestionModel, batch: QuestionBatch) -> tuple[Tensor, float]:
        with torch.no_grad():
            taught_scores, taught_logits = ask(self._teacher, self._teacher_states, batch, batch.features)
        scores, logits = ask(model, self._states, batch, batch.features)
        loss = self._plain_share * self._plain.of(scores, logits, batch)
        loss = loss + _ANSWERS_WEIGHT * divergence(logits, taught_logits)
        if batch.options:
            counts = batch.option_counts
            loss = loss + divergence(option_table(scores, counts), option_table(taught_scores, counts))
        return loss, loss.item()


def divergence(logits: Tensor, taught: Tensor) -> Tensor:
    """KL(softmax(taught) || softmax(logits)), mean over the rows."""
    return F.kl_div(logits.log_softmax(-1), taught.softmax(-1), reduction="batchmean")


def hide_cells(features: Tensor, share: float) -> Tensor:
    """Zeroes a share of the cells of features [pictures, 49, 1280]."""
    if not share:
        return features
    return features * (torch.rand(*features.shape[:2], 1) >= share)
