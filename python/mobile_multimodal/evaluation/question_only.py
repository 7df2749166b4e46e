"""Answers questions without their pictures: what a guesser scores who has read the training questions."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from mobile_multimodal.evaluation.question_sets import UNANSWERABLE, Question

_WORD: Final = re.compile(r"[a-z0-9]+")
# Rarer answers than the 3,000th are never the best guess.
_ANSWERS: Final = 3000
_EPOCHS: Final = 6
_BATCH: Final = 256
_LEARNING_RATE: Final = 0.05
# Rows of a batch to scores [batch, classes] and the right classes [batch].
_ScoredBatch: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]


class MajorityAnswer:
    """The most frequent answer of a kind; among options, the one most often right in training."""

    def __init__(self, known: Sequence[Question]) -> None:
        self._by_kind: dict[str, Counter[str]] = defaultdict(Counter)
        for question in known:
            if question.answer != UNANSWERABLE:
                self._by_kind[question.kind][question.answer] += 1

    def answer(self, question: Question) -> str:
        """The guess; empty where no training question was of the kind."""
        counts = self._by_kind.get(question.kind, Counter[str]())
        if question.options:
            return max(question.options, key=lambda option: counts[option])
        return counts.most_common(1)[0][0] if counts else ""


class QuestionOnlyModel:
    """Logistic regression on words and pairs of words, fitted to the training questions; it sees no picture.

    Open questions are sorted into the frequent answers; an option is scored by itself and with the question.
    """

    def __init__(self, known: Sequence[Question], seed: int = 0) -> None:
        answerable = [question for question in known if question.answer != UNANSWERABLE]
        counts = Counter(question.answer for question in answerable if not question.options)
        self._answers = [answer for answer, _ in counts.most_common(_ANSWERS)]
        place = {answer: index for index, answer in enumerate(self._answers)}
        asked = [question for question in answerable if not question.options and question.answer in place]
        self._open = _WordScores([_question_features(q.question) for q in asked], max(1, len(self._answers)))
        rights = torch.tensor([place[question.answer] for question in asked])
        _fit(self._open, len(asked), seed, lambda rows: (self._open_scores([asked[row] for row in rows]), rights[rows]))

        offered = [question for question in answerable if len(question.options) > 1]
        self._option = _WordScores([_option_features(q.question, o) for q in offered for o in q.options], 1)
        right_options = torch.tensor([question.options.index(question.answer) for question in offered])
        _fit(
            self._option,
            len(offered),
            seed,
            lambda rows: (self._option_scores([offered[row] for row in rows]), right_options[rows]),
        )

    def answer(self, question: Question) -> str:
        """The likeliest answer, or option."""
        with torch.no_grad():
            if question.options:
                return question.options[int(self._option_scores([question])[0].argmax())]
            return self._answers[int(self._open_scores([question])[0].argmax())] if self._answers else ""

    def _open_scores(self, questions: Sequence[Question]) -> Tensor:
        """Scores [questions, answers]."""
        return self._open([_question_features(question.question) for question in questions])

    def _option_scores(self, questions: Sequence[Question]) -> Tensor:
        """Scores [questions, most options]; -inf where a question has fewer."""
        flat = self._option([_option_features(q.question, option) for q in questions for option in q.options])[:, 0]
        parts = flat.split([len(question.options) for question in questions])
        return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=-torch.inf)


class _WordScores:
    """Sums a learned row of scores for each known feature of a text."""

    def __init__(self, texts: Sequence[Sequence[str]], outputs: int) -> None:
        self._place = {feature: row for row, feature in enumerate(dict.fromkeys(f for text in texts for f in text), 1)}
        self.weights = torch.zeros(len(self._place) + 1, outputs, requires_grad=True)

    def __call__(self, texts: Sequence[Sequence[str]]) -> Tensor:
        # Row 0 takes the features that training did not have; it is left out of the sum.
        rows = [[self._place.get(feature, 0) for feature in text] for text in texts]
        offsets = torch.tensor([0, *[len(row) for row in rows[:-1]]]).cumsum(0)
        flat = torch.tensor([place for row in rows for place in row])
        return F.embedding_bag(flat, self.weights, offsets, mode="sum", sparse=True, padding_idx=0)


def _fit(scores: _WordScores, rows: int, seed: int, of_batch: _ScoredBatch) -> None:
    """Cross-entropy by Adagrad; the same seed gives the same order."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adagrad([scores.weights], lr=_LEARNING_RATE)
    for _ in range(_EPOCHS):
        for batch in torch.randperm(rows, generator=generator).split(_BATCH):
            if not len(batch):
                continue
            guessed, right = of_batch(batch)
            optimizer.zero_grad()
            F.cross_entropy(guessed, right).backward()
            optimizer.step()


def _question_features(text: str) -> list[str]:
    words = ["^", *_WORD.findall(text.lower()), "$"]
    return words + [f"{first} {second}" for first, second in pairwise(words)]


def _option_features(question: str, option: str) -> list[str]:
    asked = _WORD.findall(question.lower())
    start, words = " ".join(asked[:2]), _WORD.findall(option.lower())
    features = [f"= {option}", f"# {min(len(words), 8)}", f"{start} = {option}"]
    return features + words + [f"{start} : {word}" for word in words] + [f"{a} & {w}" for a in asked for w in words]
