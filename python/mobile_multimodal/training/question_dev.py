"""Scores the question model in PyTorch on dev questions, for tuning; `evaluation` scores the packed file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mobile_multimodal.quantization.fast_types import fast_products
from mobile_multimodal.training.answer_vocabulary import NO, YES, AnswerVocabulary
from mobile_multimodal.training.language_model import QuestionModel
from mobile_multimodal.training.language_sets import OPTIONS, YES_NO, AskedQuestion
from mobile_multimodal.training.language_text import Text, TextStates
from mobile_multimodal.training.picture_features import PictureFeatures
from mobile_multimodal.training.question_objectives import option_table

_AT_ONCE = 128
HEADLINE = "accuracy"


@dataclass(frozen=True)
class DevFigures:
    """Figures by name."""

    figures: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return dict(self.figures)


def spread(questions: Sequence[AskedQuestion], limit: int) -> list[AskedQuestion]:
    """At most `limit` of the questions, evenly spaced over the set; 0 is all."""
    step = max(1.0, len(questions) / limit) if limit else 1.0
    return [questions[int(place * step)] for place in range(int(len(questions) / step))]


class QuestionDev:
    """Callable model -> figures: shares of right answers by set.

    `accuracy` is the mean of people's two sets, choosing and yes or no, which the generated ones only help.
    `exact` runs the integer arithmetic of the core instead of bf16 products.
    """

    def __init__(
        self,
        sets: Mapping[str, Sequence[AskedQuestion]],
        pictures: PictureFeatures,
        states: TextStates,
        answers: AnswerVocabulary,
        sees_pictures: bool = True,
        exact: bool = False,
    ) -> None:
        self.sets, self.answers = sets, answers
        self._pictures, self._states = pictures, states
        self._sees_pictures, self._exact = sees_pictures, exact

    def __call__(self, model: QuestionModel) -> DevFigures:
        figures: dict[str, float] = {}
        for name, questions in self.sets.items():
            if name == OPTIONS:
                table, right = self.option_scores(model)
                figures[name] = float((table.argmax(dim=1) == right).float().mean())
                continue
            logits = self.answer_logits(model, questions)
            if name == YES_NO:
                yes, no = (self.answers.answers.index(answer) for answer in (YES, NO))
                guessed = [YES if row[yes] > row[no] else NO for row in logits]
            else:
                guessed = [self.answers.answers[int(row.argmax())] for row in logits]
            hits = [guess == question.answer for guess, question in zip(guessed, questions, strict=True)]
            figures[name] = sum(hits) / max(1, len(hits))
        accuracy = (figures[OPTIONS] + figures[YES_NO]) / 2
        return DevFigures({HEADLINE: round(accuracy, 4), **{name: round(value, 4) for name, value in figures.items()}})

    def option_scores(self, model: QuestionModel) -> tuple[Tensor, Tensor]:
        """Scores [choices, most options], padded, and the place of the right option [choices]."""
        questions = self.sets[OPTIONS]
        texts = [pair for question in questions for pair in question.pairs]
        pictures = [question.picture for question in questions for _ in question.options]
        _, scores = self._ask(model, texts, pictures)
        counts = torch.tensor([len(question.options) for question in questions])
        return option_table(scores, counts), torch.tensor([question.right for question in questions])

    def answer_logits(self, model: QuestionModel, questions: Sequence[AskedQuestion]) -> Tensor:
        """[questions, answers]"""
        logits, _ = self._ask(model, [q.question for q in questions], [q.picture for q in questions])
        return logits

    @torch.no_grad()
    def _ask(self, model: QuestionModel, texts: Sequence[Text], pictures: Sequence[str]) -> tuple[Tensor, Tensor]:
        model.eval()
        logits, scores = [], []
        for start in range(0, len(texts), _AT_ONCE):
            chosen = pictures[start : start + _AT_ONCE]
            place = {picture: row for row, picture in enumerate(dict.fromkeys(chosen))}
            x, rows = self._states.read(texts[start : start + _AT_ONCE])
            with nullcontext() if self._exact else fast_products():
                memory = model.look(self._pictures.read(list(place))) if self._sees_pictures else None
                owner = torch.tensor([place[picture] for picture in chosen]) if self._sees_pictures else None
                answers, score = model(x, rows, memory, owner)
            logits.append(answers)
            scores.append(score)
        return torch.cat(logits), torch.cat(scores)
