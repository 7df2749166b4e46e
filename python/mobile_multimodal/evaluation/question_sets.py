"""Reads sets of questions about pictures: JSON lines, Visual7W, yes/no questions and easy-VQA."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Protocol

from mobile_multimodal.errors import InvalidInputError, NotFoundError

UNANSWERABLE: Final = "unanswerable"


@dataclass(frozen=True)
class Question:
    """A question about the picture `image` (a path inside the set's images/), its answer and what it asks for.

    `options`, where there are some, hold the answer at a place that says nothing.
    """

    image: str
    question: str
    answer: str
    kind: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuestionSet:
    """Questions of one split and the folder their picture names start from."""

    name: str
    images: Path
    questions: list[Question]


class QuestionForm(Protocol):
    """A way to keep questions in a folder."""

    def is_in(self, folder: Path, split: str) -> bool:
        """Whether the folder has the split in this form."""

    def read(self, folder: Path, split: str) -> QuestionSet:
        """All questions of the split."""


def plain_answer(text: str) -> str:
    """Lower case, single spaces and no full stop at the end: "In the  Park." -> "in the park"."""
    return " ".join(text.lower().split()).rstrip(" .!")


def shuffled_options(options: Iterable[str], *identity: str) -> tuple[str, ...]:
    """The options in an order drawn from what identifies the question: the same in every run and on every machine."""
    order = list(dict.fromkeys(options))
    random.Random("\n".join(identity)).shuffle(order)
    return tuple(order)


class JsonLines:
    """`questions_{split}.jsonl`, one {"image", "question", "answer", "kind"} a line, with "options" or without."""

    def is_in(self, folder: Path, split: str) -> bool:
        return self._path(folder, split).is_file()

    def read(self, folder: Path, split: str) -> QuestionSet:
        return QuestionSet(folder.name, folder / "images", read_questions(self._path(folder, split)))

    @staticmethod
    def _path(folder: Path, split: str) -> Path:
        return folder / f"questions_{split}.jsonl"


class YesNoTable:
    """`questions_{split}.csv` with the columns image, question, answer."""

    columns: ClassVar[tuple[str, ...]] = ("image", "question", "answer")

    def is_in(self, folder: Path, split: str) -> bool:
        path = folder / f"questions_{split}.csv"
        if not path.is_file():
            return False
        with path.open(encoding="utf-8", newline="") as lines:
            return set(csv.DictReader(lines).fieldnames or ()) == set(self.columns)

    def read(self, folder: Path, split: str) -> QuestionSet:
        with (folder / f"questions_{split}.csv").open(encoding="utf-8", newline="") as lines:
            return QuestionSet(folder.name, folder / "images", [self._question(row) for row in csv.DictReader(lines)])

    def _question(self, row: dict[str, str]) -> Question:
        return Question(row["image"], row["question"], plain_answer(row["answer"]), "yesno")


class Visual7W(YesNoTable):
    """The same with options separated by " | ", the right one first; the kind is the question's first word."""

    columns = ("image", "question", "answer", "options")

    def _question(self, row: dict[str, str]) -> Question:
        answer, *wrong = (plain_answer(option) for option in row["options"].split(" | "))
        text = row["question"]
        options = shuffled_options((answer, *wrong), row["image"], text)
        return Question(row["image"], text, answer, text.split()[0].lower(), options)


class EasyVqa:
    """The folder `data` of the package easy-vqa: {train,test}/questions.json and images; test stands in for dev."""

    def is_in(self, folder: Path, split: str) -> bool:
        return (self._part(folder, split) / "questions.json").is_file()

    def read(self, folder: Path, split: str) -> QuestionSet:
        part = self._part(folder, split)
        records = json.loads((part / "questions.json").read_text(encoding="utf-8"))
        questions = [
            Question(f"{picture}.png", text, answer, self.kind_of(answer)) for text, answer, picture in records
        ]
        return QuestionSet("easy-vqa", part / "images", questions)

    @staticmethod
    def kind_of(answer: str) -> str:
        """What a question asks for, by its answer."""
        if answer in ("yes", "no"):
            return "yesno"
        return "shape" if answer in ("circle", "rectangle", "triangle") else "colour"

    @staticmethod
    def _part(folder: Path, split: str) -> Path:
        return folder / ("test" if split == "dev" else split)


FORMS: Final[tuple[QuestionForm, ...]] = (JsonLines(), Visual7W(), YesNoTable(), EasyVqa())


def read_question_set(folder: Path, split: str) -> QuestionSet:
    """Finds out which of the known forms a folder has and reads one split of it."""
    for form in FORMS:
        if form.is_in(folder, split):
            return form.read(folder, split)
    raise NotFoundError(
        f"{folder} has no questions of the split '{split}': neither questions_{split}.jsonl nor questions_{split}.csv",
        hint="docs/questions.md describes the folders that can be read",
    )


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Writes one JSON object a line."""
    with path.open("w", encoding="utf-8") as lines:
        for question in questions:
            record: dict[str, object] = {
                "image": question.image,
                "question": question.question,
                "answer": question.answer,
                "kind": question.kind,
            }
            if question.options:
                record["options"] = list(question.options)
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_questions(path: Path) -> list[Question]:
    """Reads what write_questions wrote; refuses a line that lacks a field or whose options lack the answer."""
    questions = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            question = Question(
                image=str(record["image"]),
                question=str(record["question"]),
                answer=str(record["answer"]),
                kind=str(record["kind"]),
                options=tuple(str(option) for option in record.get("options", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInputError(
                f"{path}, line {number}: not a question ({error!r})",
                hint='a line is {"image": ..., "question": ..., "answer": ..., "kind": ...}, with "options" or without',
            ) from error
        if question.options and question.answer not in question.options:
            raise InvalidInputError(
                f"{path}, line {number}: the answer '{question.answer}' is not among the options",
                hint="options hold the right answer and the wrong ones",
            )
        questions.append(question)
    return questions
