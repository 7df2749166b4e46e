"""Scores answers to questions about pictures, as users get them: picture file and question in, answer out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.evaluation.bootstrap import Interval, mean_interval
from mobile_multimodal.evaluation.calibration import expected_calibration_error, ranking_accuracy
from mobile_multimodal.evaluation.question_sets import UNANSWERABLE, Question, QuestionSet

ALL_KINDS = "all"
_ARTICLES = {"a", "an", "the"}
_DIGITS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}


class AnswerLike(Protocol):
    """What answer_question gives."""

    @property
    def text(self) -> str:
        """The answer."""

    @property
    def confidence(self) -> float:
        """Its probability."""


class QuestionAnswerer(Protocol):
    """What is evaluated: `MobileMultiModalLLM`, or anything with its methods."""

    def answer_question(self, image: Path, question: str, /) -> AnswerLike:
        """An answer in a few words."""

    def choose(self, image: Path, question: str, options: Sequence[str], /) -> Mapping[str, float]:
        """The probability of each option."""


class Guesser(Protocol):
    """A baseline that sees no picture."""

    def answer(self, question: Question) -> str:
        """The guess."""


@dataclass(frozen=True)
class GivenAnswer:
    """A question with the model's answer."""

    question: Question
    text: str
    confidence: float

    @property
    def is_correct(self) -> bool:
        """Equal but for case, punctuation, articles and the way numbers are written."""
        return answer_key(self.text) == answer_key(self.question.answer)


@dataclass(frozen=True)
class KindScores:
    """Accuracy on the questions of a kind, with that of guessers and the calibration error (open and chosen alike)."""

    kind: str
    questions: int
    accuracy: Interval
    baselines: dict[str, Interval]
    calibration_error: float


@dataclass(frozen=True)
class UnanswerableScores:
    """Confidence on questions without an answer, and how often it is below that on a question that has one."""

    questions: int
    mean_confidence: float
    ranking_accuracy: float


@dataclass(frozen=True)
class VqaEvaluation:
    """All answers in the order of the set, and scores by kind, the first of them over all kinds."""

    answers: list[GivenAnswer]
    kinds: list[KindScores]
    unanswerable: UnanswerableScores | None

    def as_dict(self) -> dict[str, object]:
        """For JSON, without the answers."""
        return {
            "kinds": {scores.kind: asdict(scores) for scores in self.kinds},
            "unanswerable": None if self.unanswerable is None else asdict(self.unanswerable),
        }


def answer_key(text: str) -> str:
    """What is compared: "The two dogs." and "2 dogs" are the same answer."""
    words = re.findall(r"[\w'-]+", text.lower())
    kept = [_DIGITS.get(word, word) for word in words if word not in _ARTICLES]
    return " ".join(kept or words)


def drawn_questions(found: QuestionSet, limit: int, seed: int) -> list[Question]:
    """`limit` of the questions, drawn by the seed, in their order; 0 is all."""
    if not found.questions:
        raise InvalidInputError(f"the set '{found.name}' is empty", hint="pass a data set with questions")
    if not limit or limit >= len(found.questions):
        return found.questions
    rows = np.random.default_rng(seed).choice(len(found.questions), size=limit, replace=False)
    return [found.questions[row] for row in sorted(rows.tolist())]


def ask_all(
    model: QuestionAnswerer,
    images: Path,
    questions: Sequence[Question],
    on_answer: Callable[[int, int], None] | None = None,
) -> list[GivenAnswer]:
    """Asks picture by picture, so that a model that keeps the last picture encodes each once; keeps the order."""
    first_seen = {image: place for place, image in reversed(list(enumerate(q.image for q in questions)))}
    answers: dict[int, GivenAnswer] = {}
    for place in sorted(range(len(questions)), key=lambda place: first_seen[questions[place].image]):
        answers[place] = _ask(model, images / questions[place].image, questions[place])
        if on_answer is not None:
            on_answer(len(answers), len(questions))
    return [answers[place] for place in range(len(questions))]


def _ask(model: QuestionAnswerer, picture: Path, question: Question) -> GivenAnswer:
    if len(question.options) > 1:
        probabilities = model.choose(picture, question.question, list(question.options))
        best = max(probabilities, key=lambda option: probabilities[option])
        return GivenAnswer(question, best, float(probabilities[best]))
    answer = model.answer_question(picture, question.question)
    return GivenAnswer(question, answer.text, float(answer.confidence))


def score_answers(
    answers: Sequence[GivenAnswer], guessers: Mapping[str, Guesser] | None = None, seed: int = 0
) -> VqaEvaluation:
    """Scores by kind. Questions without an answer count for no accuracy; they are judged by confidence alone."""
    answerable = [answer for answer in answers if answer.question.answer != UNANSWERABLE]
    without = [answer for answer in answers if answer.question.answer == UNANSWERABLE]
    kinds = []
    for kind in (ALL_KINDS, *sorted({answer.question.kind for answer in answerable})):
        chosen = [answer for answer in answerable if kind in (ALL_KINDS, answer.question.kind)]
        if chosen:
            kinds.append(_kind_scores(kind, chosen, guessers or {}, seed))
    unanswerable = None
    if without:
        confidences = _confidences(without)
        ranking = ranking_accuracy(_confidences(answerable), confidences) if answerable else float("nan")
        unanswerable = UnanswerableScores(len(without), float(confidences.mean()), ranking)
    return VqaEvaluation(list(answers), kinds, unanswerable)


def correctness(answers: Sequence[GivenAnswer], kind: str = ALL_KINDS) -> NDArray[np.float64]:
    """1 for each right answer among the answerable questions of a kind, 0 for each wrong one."""
    chosen = [a for a in answers if a.question.answer != UNANSWERABLE and kind in (ALL_KINDS, a.question.kind)]
    return np.array([answer.is_correct for answer in chosen], dtype=np.float64)


def accuracy_difference(first: VqaEvaluation, second: VqaEvaluation, kind: str = ALL_KINDS, seed: int = 0) -> Interval:
    """Accuracy of the first minus that of the second on the same questions, resampled in pairs."""
    return mean_interval(correctness(first.answers, kind) - correctness(second.answers, kind), seed)


def _confidences(answers: Sequence[GivenAnswer]) -> NDArray[np.float64]:
    return np.array([answer.confidence for answer in answers], dtype=np.float64)


def _kind_scores(kind: str, answers: Sequence[GivenAnswer], guessers: Mapping[str, Guesser], seed: int) -> KindScores:
    correct = correctness(answers)
    baselines = {}
    for name, guesser in guessers.items():
        guesses = [GivenAnswer(a.question, guesser.answer(a.question), 0.0).is_correct for a in answers]
        baselines[name] = mean_interval(np.array(guesses, dtype=np.float64), seed)
    return KindScores(
        kind=kind,
        questions=len(answers),
        accuracy=mean_interval(correct, seed),
        baselines=baselines,
        calibration_error=expected_calibration_error(_confidences(answers), correct),
    )
