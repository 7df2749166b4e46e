"""Answers questions without their pictures: what a guesser scores who has read the training questions."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.evaluation.question_sets import UNANSWERABLE, Question

_WORD: Final = re.compile(r"[a-z0-9]+")
# Rarer answers than the 1,000th are hardly ever the best guess.
_ANSWERS: Final = 1000
_EPOCHS: Final = 4
_BATCH: Final = 256
_LEARNING_RATE: Final = 0.05

_Places: TypeAlias = NDArray[np.int64]
_Floats: TypeAlias = NDArray[np.float32]


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
        self._open = _AnswerScores([question for question in answerable if not question.options], seed)
        self._option = _OptionScores([question for question in answerable if question.options], seed)

    def answer(self, question: Question) -> str:
        """The likeliest answer, or option; empty where no question of that form was in training."""
        return self._option.best(question) if question.options else self._open.best(question)


class _Features:
    """Numbers the features of training texts; others are dropped."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, features: Iterable[str]) -> _Places:
        """Places of features, with new ones for those not seen before."""
        return np.array([self._places.setdefault(feature, len(self._places)) for feature in features], dtype=np.int64)

    def known(self, features: Iterable[str]) -> _Places:
        """Places of those features that were added."""
        return np.array([self._places[feature] for feature in features if feature in self._places], dtype=np.int64)


class _AnswerScores:
    """Scores of the frequent answers [features, answers], learned by Adagrad."""

    def __init__(self, known: Sequence[Question], seed: int) -> None:
        counts = Counter(question.answer for question in known)
        self._answers = [answer for answer, _ in counts.most_common(_ANSWERS)]
        self._features = _Features()
        place = {answer: index for index, answer in enumerate(self._answers)}
        learned = [question for question in known if question.answer in place]
        texts = [self._features.add(_question_features(question.question)) for question in learned]
        rights = np.array([place[question.answer] for question in learned], dtype=np.int64)
        self._weights = np.zeros((len(self._features), len(self._answers)), np.float32)
        squares = np.full_like(self._weights, 1e-6)
        for rows in _batches(len(learned), seed):
            used, occurrences = _occurrences([texts[row] for row in rows])
            gradient = _softmax(occurrences.T @ self._weights[used])
            gradient[np.arange(len(rows)), rights[rows]] -= 1
            _step(self._weights, squares, used, (occurrences @ gradient / len(rows)).astype(np.float32))

    def best(self, question: Question) -> str:
        if not self._answers:
            return ""
        used = self._features.known(_question_features(question.question))
        return self._answers[int(self._weights[used].sum(axis=0).argmax())]


class _OptionScores:
    """One score for each feature of a question with an option, learned by Adagrad."""

    def __init__(self, known: Sequence[Question], seed: int) -> None:
        self._features = _Features()
        texts = [[self._features.add(_option_features(q.question, option)) for option in q.options] for q in known]
        rights = [question.options.index(question.answer) for question in known]
        self._weights = np.zeros(len(self._features), np.float32)
        squares = np.full_like(self._weights, 1e-6)
        for rows in _batches(len(known), seed):
            places = [option for row in rows for option in texts[row]]
            lengths = [len(option) for option in places]
            flat = np.concatenate(places)
            scores = np.add.reduceat(self._weights[flat], np.cumsum([0, *lengths[:-1]]))
            ends = np.cumsum([len(texts[row]) for row in rows])
            gradient = np.concatenate([_softmax(part[None])[0] for part in np.split(scores, ends[:-1])])
            gradient[[end - len(texts[row]) + rights[row] for end, row in zip(ends, rows, strict=True)]] -= 1
            used, inverse = np.unique(flat, return_inverse=True)
            sums = np.bincount(inverse, np.repeat(gradient, lengths))
            _step(self._weights, squares, used, (sums / len(rows)).astype(np.float32))

    def best(self, question: Question) -> str:
        def score(option: str) -> float:
            return float(self._weights[self._features.known(_option_features(question.question, option))].sum())

        return max(question.options, key=score)


def _occurrences(texts: Sequence[_Places]) -> tuple[_Places, _Floats]:
    """The features of some texts, and how often each is in each [features, texts]."""
    used, inverse = np.unique(np.concatenate(texts), return_inverse=True)
    columns = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    counts = np.bincount(inverse * len(texts) + columns, minlength=len(used) * len(texts))
    return used, counts.reshape(len(used), len(texts)).astype(np.float32)


def _step(weights: _Floats, squares: _Floats, used: _Places, gradient: _Floats) -> None:
    squares[used] += gradient**2
    weights[used] -= _LEARNING_RATE * gradient / np.sqrt(squares[used])


def _softmax(scores: _Floats) -> _Floats:
    powers: _Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
    total: _Floats = powers.sum(axis=1, keepdims=True)
    return powers / total


def _batches(rows: int, seed: int) -> Iterator[_Places]:
    random = np.random.default_rng(seed)
    for _ in range(_EPOCHS):
        order = random.permutation(rows)
        yield from (order[start : start + _BATCH] for start in range(0, rows, _BATCH))


def _question_features(text: str) -> list[str]:
    words = ["^", *_WORD.findall(text.lower()), "$"]
    return words + [f"{first} {second}" for first, second in pairwise(words)]


def _option_features(question: str, option: str) -> list[str]:
    asked = _WORD.findall(question.lower())
    start, words = " ".join(asked[:2]), _WORD.findall(option.lower())
    features = [f"= {option}", f"# {min(len(words), 8)}", f"{start} = {option}"]
    return features + words + [f"{start} : {word}" for word in words] + [f"{a} & {w}" for a in asked for w in words]
