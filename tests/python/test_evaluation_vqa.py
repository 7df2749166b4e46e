"""Checks scores of answers on cases whose scores are known, the guessers, and the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobile_multimodal.cli.main import main
from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.evaluation import vqa_command
from mobile_multimodal.evaluation.calibration import expected_calibration_error, ranking_accuracy, reliability_bins
from mobile_multimodal.evaluation.question_only import MajorityAnswer, QuestionOnlyModel
from mobile_multimodal.evaluation.question_sets import UNANSWERABLE, Question, QuestionSet, write_questions
from mobile_multimodal.evaluation.vqa import (
    GivenAnswer,
    accuracy_difference,
    answer_key,
    ask_all,
    drawn_questions,
    score_answers,
)


def test_calibration_error_of_hand_made_cases() -> None:
    # Ten answers at 0.95 of which eight are right: 0.15 off. Ten at 0.35 of which five are: 0.15 off as well.
    confidences = np.array([0.95] * 10 + [0.35] * 10)
    correct = np.array([1.0] * 8 + [0.0] * 2 + [1.0] * 5 + [0.0] * 5)
    assert expected_calibration_error(confidences, correct) == pytest.approx(0.15)
    assert [(part.count, part.accuracy) for part in reliability_bins(confidences, correct)] == [(10, 0.5), (10, 0.8)]
    assert expected_calibration_error(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0.0


def test_bins_have_closed_upper_ends() -> None:
    edges = np.arange(16) / 15
    bins = reliability_bins(edges, np.zeros(16))
    assert [part.count for part in bins] == [2] + [1] * 14, "0 and 1/15 share the first bin, 1 is in the last"


def test_ranking_accuracy_counts_ties_half() -> None:
    assert ranking_accuracy(np.array([0.9, 0.8]), np.array([0.1, 0.2])) == 1.0
    assert ranking_accuracy(np.array([0.5]), np.array([0.5, 0.5])) == 0.5
    assert ranking_accuracy(np.array([0.3, 0.6]), np.array([0.4])) == 0.5
    random = np.random.default_rng(0)
    higher, lower = random.integers(0, 5, 40) / 4, random.integers(0, 5, 30) / 4
    slow = np.mean([[1.0 if a > b else 0.5 if a == b else 0.0 for b in lower] for a in higher])
    assert ranking_accuracy(higher, lower) == pytest.approx(slow)


@pytest.mark.parametrize(
    ("given", "expected", "same"),
    [
        ("The two dogs.", "2 dogs", True),
        ("Yes", "yes", True),
        ("a man", "man", True),
        ("t-shirt", "T-Shirt", True),
        ("man", "woman", False),
        ("", "yes", False),
        ("a", "the", False),
    ],
)
def test_what_counts_as_the_same_answer(given: str, expected: str, same: bool) -> None:
    assert (answer_key(given) == answer_key(expected)) == same


@dataclass(frozen=True)
class _Said:
    text: str
    confidence: float


class _Oracle:
    """Answers from a table, and remembers the order of the pictures."""

    def __init__(self, said: dict[str, tuple[str, float]]) -> None:
        self._said = said
        self.pictures: list[str] = []

    def answer_question(self, image: Path, question: str, /) -> _Said:
        self.pictures.append(image.name)
        return _Said(*self._said[question])

    def choose(self, image: Path, question: str, options: Sequence[str], /) -> dict[str, float]:
        self.pictures.append(image.name)
        text, confidence = self._said[question]
        return {option: confidence if option == text else (1 - confidence) / (len(options) - 1) for option in options}


QUESTIONS = [
    Question("a.png", "What colour?", "red", "colour"),
    Question("b.png", "How many?", "2", "count"),
    Question("a.png", "Where?", "at sea", "where", ("at home", "at sea")),
    Question("b.png", "Whose?", UNANSWERABLE, UNANSWERABLE),
    Question("a.png", "What shade?", "blue", "colour"),
]
SAID = {
    "What colour?": ("red", 0.9),
    "How many?": ("two", 0.8),
    "Where?": ("at home", 0.6),
    "Whose?": ("mine", 0.7),
    "What shade?": ("green", 0.4),
}


def test_scores_of_known_answers() -> None:
    oracle = _Oracle(SAID)
    answers = ask_all(oracle, Path("images"), QUESTIONS)
    assert oracle.pictures == ["a.png"] * 3 + ["b.png"] * 2, "each picture is encoded once"
    assert [answer.question for answer in answers] == QUESTIONS
    majority = MajorityAnswer([QUESTIONS[0], QUESTIONS[1], QUESTIONS[2]])
    result = score_answers(answers, {"majority": majority})
    scores = {kind.kind: kind for kind in result.kinds}
    assert list(scores) == ["all", "colour", "count", "where"]
    assert scores["all"].questions == 4
    assert scores["all"].accuracy.value == 0.5
    assert scores["colour"].accuracy.value == 0.5
    assert scores["count"].accuracy.value == 1.0
    assert scores["where"].accuracy.value == 0.0
    assert scores["where"].calibration_error == pytest.approx(0.6)
    assert scores["all"].calibration_error == pytest.approx((0.1 + 0.2 + 0.6 + 0.4) / 4)
    assert scores["colour"].baselines["majority"].value == 0.5
    assert result.unanswerable is not None
    assert result.unanswerable.mean_confidence == pytest.approx(0.7)
    # 0.7 lies below two of 0.9, 0.8, 0.6, 0.4.
    assert result.unanswerable.ranking_accuracy == 0.5


def test_two_models_are_compared_in_pairs() -> None:
    right = score_answers([GivenAnswer(q, q.answer, 1.0) for q in QUESTIONS])
    half = score_answers(ask_all(_Oracle(SAID), Path("images"), QUESTIONS))
    assert accuracy_difference(right, half).value == 0.5
    same = accuracy_difference(half, half)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_a_limit_draws_the_same_questions() -> None:
    found = QuestionSet("x", Path("images"), [Question(str(i), "?", "a", "k") for i in range(50)])
    drawn = drawn_questions(found, 10, seed=3)
    assert drawn == drawn_questions(found, 10, seed=3) != drawn_questions(found, 10, seed=4)
    assert [int(question.image) for question in drawn] == sorted(int(question.image) for question in drawn)
    assert drawn_questions(found, 0, 0) == drawn_questions(found, 99, 0) == found.questions
    with pytest.raises(InvalidInputError, match="the set 'x' is empty"):
        drawn_questions(QuestionSet("x", Path("images"), []), 0, 0)


def _biased_questions() -> list[Question]:
    """Snow is white, grass is green, and the longer option is right: all of it without a picture."""
    questions = []
    for index in range(300):
        thing, colour = (("snow", "white"), ("grass", "green"), ("sky", "blue"))[index % 3]
        questions.append(Question(f"{index}", f"What color is the {thing}?", colour, "colour"))
        options = ("in a place far away", "here") if index % 2 else ("here", "in a place far away")
        questions.append(Question(f"{index}", "Where is it?", "in a place far away", "where", options))
    return questions


def test_the_question_only_model_learns_what_questions_give_away() -> None:
    known = _biased_questions()
    model, majority = QuestionOnlyModel(known[:400]), MajorityAnswer(known[:400])
    rest = known[400:]
    assert [model.answer(question) for question in rest] == [question.answer for question in rest]
    guessed = [majority.answer(q) == q.answer for q in rest if q.kind == "colour"]
    assert sum(guessed) / len(guessed) == pytest.approx(1 / 3, abs=0.02)
    unknown = Question("x", "Quo vadis?", "rome", "latin")
    assert majority.answer(unknown) == ""
    assert model.answer(unknown) in {"white", "green", "blue"}
    assert QuestionOnlyModel([]).answer(unknown) == ""


def test_no_guesser_learns_from_random_answers() -> None:
    random = np.random.default_rng(0)
    options = ("one", "other", "third", "last")
    questions = [
        Question(str(i), f"Question {random.integers(50)}?", options[int(random.integers(4))], "k", options)
        for i in range(1600)
    ]
    model = QuestionOnlyModel(questions[:800])
    share = np.mean([model.answer(question) == question.answer for question in questions[800:]])
    # 800 guesses at 1 in 4: 3.3 standard deviations of 0.0153 either way.
    assert share == pytest.approx(0.25, abs=0.05)


class _OpenedOracle(_Oracle):
    """Stands where a model file is opened."""

    def __enter__(self) -> _OpenedOracle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def test_the_command_scores_compares_and_writes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (30, 20), "navy").save(tmp_path / "images" / name)
    hostile = Question("a.png", "<script>alert(1)</script>", "x", "colour")
    questions = [*QUESTIONS, hostile]
    write_questions(tmp_path / "questions_dev.jsonl", questions)
    write_questions(tmp_path / "questions_train.jsonl", questions)
    better = {question.question: (question.answer, 0.9) for question in questions}

    class _Models:
        @staticmethod
        def from_pretrained(name: str, **_: Any) -> _OpenedOracle:
            return _OpenedOracle(better if name == "better" else {**SAID, hostile.question: ("<b>", 0.99)})

    monkeypatch.setattr(vqa_command, "MobileMultiModalLLM", _Models)
    page, answers = tmp_path / "page.html", tmp_path / "answers.json"
    command = ["evaluate", "vqa", "--data", str(tmp_path), "--model", "better", "--compare", "worse"]
    assert main([*command, "--json", "--html", str(page), "--answers", str(answers)]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["kinds"]["all"]["accuracy"]["value"] == 1.0
    assert scores["compare"]["kinds"]["all"]["accuracy"]["value"] == 0.4
    assert scores["accuracy_difference"]["all"]["value"] == pytest.approx(0.6)
    assert set(scores["kinds"]["all"]["baselines"]) == {"majority", "question only"}
    assert len(json.loads(answers.read_text(encoding="utf-8"))) == 6
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b><b>" not in text
    assert text.count("<img ") == 6
    assert "http" not in text, "the page stands alone"
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "first minus second, paired: 60.00 %" in printed
    assert "unanswerable" in printed
    assert main([*command[:4], "--split", "none"]) == 5
