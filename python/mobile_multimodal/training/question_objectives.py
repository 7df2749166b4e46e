"""What a step of the question model minimises: cross-entropies by kind of question, and imitation of its twin."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mobile_multimodal.quantization.fast_types import fast_products
from mobile_multimodal.training.language_model import QuestionModel
from mobile_multimodal.training.language_text import TextStates
from mobile_multimodal.training.question_batches import QuestionBatch

# Stands for the score of an option that is not there: its probability is 0, and 0 * log of it stays a number.
_NO_SCORE = -1e4
# The answers' share in imitation, against that of the options' scores (Hinton et al., arXiv 1503.02531).
_ANSWERS_WEIGHT = 2.0
# The twin's log-probabilities of options beside those of a teacher of choices: 0.770 of Visual7W's dev choices are
# right by this sum, 0.758 by the teacher alone and 0.750 by the twin.
_TWIN_SHARE = 0.5


def option_table(scores: Tensor, counts: Tensor) -> Tensor:
    """Scores of all options [options] -> [choices, most options], padded where a choice has fewer."""
    rows = list(scores.split(counts.tolist()))
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=_NO_SCORE)


def option_loss(scores: Tensor, counts: Tensor, right: Tensor, smoothing: float = 0.0) -> Tensor:
    """-log of the right option's share in the softmax over its question's scores, mean over the choices.

    smoothing: the part of the target that is spread over all options of the question, not over the padding.
    """
    shares = option_table(scores, counts).log_softmax(dim=1)
    is_there = torch.arange(shares.shape[1])[None] < counts[:, None]
    target = smoothing * is_there / counts[:, None]
    target[torch.arange(len(right)), right] += 1 - smoothing
    return -(target * shares).sum(dim=1).mean()


def answer_losses(logits: Tensor, batch: QuestionBatch, weights: Mapping[str, float]) -> Tensor:
    """Sum over the parts of weight * mean cross-entropy; logits [questions, answers].

    Parts without a weight of their own, the generated sets, make one part of weight 1.
    """
    each = F.cross_entropy(logits, batch.targets, reduction="none")
    groups = [part if part in weights else "" for part in batch.parts]
    losses = [weights.get(name, 1.0) * each[_where(groups, {name})].mean() for name in dict.fromkeys(groups)]
    return torch.stack([*losses, each.new_zeros(())]).sum()


@dataclass(frozen=True)
class Noise:
    """Shares of the states' and the features' entries, and of the 49 cells of a picture, that are zeroed in a step."""

    states: float = 0.0
    features: float = 0.0
    cells: float = 0.0

    def on_states(self, states: Tensor) -> Tensor:
        return F.dropout(states, self.states)

    def on_features(self, features: Tensor) -> Tensor:
        """Features [pictures, 49, 1280]."""
        if self.cells:
            features = features * (torch.rand(*features.shape[:2], 1) >= self.cells)
        return F.dropout(features, self.features)


def ask(
    model: QuestionModel, states: TextStates, batch: QuestionBatch, noise: Noise, sees_pictures: bool = True
) -> tuple[Tensor, Tensor]:
    """Scores of the options [options] and logits of the questions behind them [questions, answers]."""
    x, rows = states.read(batch.texts)
    with fast_products():
        memory = model.look(noise.on_features(batch.features)) if sees_pictures else None
        logits, scores = model(noise.on_states(x), rows, memory, batch.owner if sees_pictures else None)
    return scores[: batch.options], logits[batch.options :]


class QuestionObjective:
    """Weighted sum of the losses; with `sees_pictures` false, the model has to guess from the words."""

    def __init__(
        self,
        states: TextStates,
        weights: Mapping[str, float],
        noise: Noise = Noise(),
        sees_pictures: bool = True,
        smoothing: float = 0.0,
    ) -> None:
        """weights: of the parts, beside 1 for options and for the generated sets; smoothing: see option_loss."""
        self._states, self._weights, self._noise, self._sees_pictures = states, weights, noise, sees_pictures
        self._smoothing = smoothing

    def loss(self, model: QuestionModel, batch: QuestionBatch) -> tuple[Tensor, float]:
        loss = self.of(*self.ask(model, batch), batch)
        return loss, loss.item()

    def ask(self, model: QuestionModel, batch: QuestionBatch) -> tuple[Tensor, Tensor]:
        """Scores [options] and logits [questions, answers] under noise."""
        return ask(model, self._states, batch, self._noise, self._sees_pictures)

    def of(self, scores: Tensor, logits: Tensor, batch: QuestionBatch, known: Tensor | None = None) -> Tensor:
        """The loss of scores [options] and logits [questions, answers]; `known` [choices] tells which ones count."""
        loss = answer_losses(logits, batch, self._weights)
        counts, right = batch.option_counts, batch.right
        if known is not None:
            scores, counts, right = scores[known.repeat_interleave(counts)], counts[known], right[known]
        if not len(counts):
            return loss
        return loss + option_loss(scores, counts, right, self._smoothing)


class ChoiceTeacher(Protocol):
    """What tells how likely each option is."""

    def log_shares(self, batch: QuestionBatch, count: int) -> Tensor:
        """Logarithms of the options' probabilities in the batch's first choices [count, most options], padded."""


class QuestionImitation:
    """The twin's probabilities over options and answers, with a share of the plain loss.

    untaught: generated sets that the student learns from their answers alone, as it can do better than its twin; so
    are generated questions with options.
    choosing: a teacher of people's choices beside the twin; the twin then counts for `_TWIN_SHARE` against its 1.
    foreign_share: the part of people's choices that are asked of another choice's picture. Nobody knows the right
    option there, but teachers have an opinion that they have not learned by heart.
    """

    def __init__(
        self,
        plain: QuestionObjective,
        teacher: QuestionModel,
        teacher_states: TextStates,
        plain_share: float,
        untaught: Collection[str] = (),
        choosing: ChoiceTeacher | None = None,
        foreign_share: float = 0.0,
    ) -> None:
        self._plain, self._plain_share, self._untaught = plain, plain_share, set(untaught)
        self._teacher, self._teacher_states = teacher.eval(), teacher_states
        self._choosing, self._foreign_share = choosing, foreign_share

    def loss(self, model: QuestionModel, batch: QuestionBatch) -> tuple[Tensor, float]:
        counts, taught = batch.option_counts, len(batch.option_counts) - batch.offered
        is_foreign = torch.rand(taught) < self._foreign_share
        batch = with_foreign_pictures(batch, is_foreign)
        with torch.no_grad():
            known_parts = batch.without(self._untaught)
            taught_scores, taught_logits = ask(self._teacher, self._teacher_states, known_parts, Noise())
        scores, logits = self._plain.ask(model, batch)
        known = torch.cat([~is_foreign, torch.ones(batch.offered, dtype=torch.bool)])
        loss = self._plain_share * self._plain.of(scores, logits, batch, known)
        untaught = _where(batch.parts, self._untaught)
        if bool((~untaught).any()):
            loss = loss + _ANSWERS_WEIGHT * divergence(logits[~untaught], taught_logits)
        if bool(untaught.any()):
            loss = loss + F.cross_entropy(logits[untaught], batch.targets[untaught])
        if taught:
            options = slice(0, int(counts[:taught].sum()))
            mine, theirs = (option_table(found[options], counts[:taught]) for found in (scores, taught_scores))
            if self._choosing is not None:
                with torch.no_grad():
                    theirs = self._choosing.log_shares(batch, taught) + _TWIN_SHARE * theirs.log_softmax(dim=1)
            loss = loss + divergence(mine, theirs)
        if batch.offered:
            loss = loss + option_loss(scores[int(counts[:taught].sum()) :], counts[taught:], batch.right[taught:])
        return loss, loss.item()


def with_foreign_pictures(batch: QuestionBatch, is_foreign: Tensor) -> QuestionBatch:
    """The batch with its first choices asked of the picture of any of them, where is_foreign [choices]."""
    counts = batch.option_counts[: len(is_foreign)]
    own = batch.owner[: int(counts.sum())]
    drawn = own[torch.randint(max(1, len(own)), (len(is_foreign),))] if len(own) else own
    asked = torch.where(is_foreign.repeat_interleave(counts), drawn.repeat_interleave(counts), own)
    return replace(batch, owner=torch.cat([asked, batch.owner[len(own) :]]))


def _where(parts: Sequence[str], names: Collection[str]) -> Tensor:
    return torch.tensor([part in names for part in parts], dtype=torch.bool)


def divergence(logits: Tensor, taught: Tensor) -> Tensor:
    """KL(softmax(taught) || softmax(logits)), mean over the rows."""
    return F.kl_div(logits.log_softmax(-1), taught.softmax(-1), reduction="batchmean")
