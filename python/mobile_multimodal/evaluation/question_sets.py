"""Reads sets of questions about pictures: JSON lines, Visual7W, yes/no questions and easy-VQA."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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


def plain_answer(text: str) -> str:
    """Lower case, single spaces and no full stop at the end: "In the  Park." -> "in the park"."""
    return " ".join(text.lower().split()).rstrip(" .!")


def shuffled_options(options: Iterable[str], *identity: str) -> tuple[str, ...]:
    """The options in an order drawn from what identifies the question: the same in every run and on every machine."""
    order = list(dict.fromkeys(options))
    random.Random("\n".join(identity)).shuffle(order)
    return tuple(order)


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
                *(str(record[field]) for field in ("image", "question", "answer", "kind")),
                options=tuple(str(option) for option in record.get("options", ())),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(
                f"{path}, line {number}: not a question ({error!r})",
                hint='a line is {"image": ..., "question": ..., "answer": ..., "kind": ...}, with "options" or without',
            ) from error
        if question.options and question.answer not in question.options:
            raise InvalidInputError(f"{path}, line {number}: the answer '{question.answer}' is not among the options")
        questions.append(question)
    return questions


def read_visual7w(path: Path) -> list[Question]:
    """Reads a Visual7W table, where the right option always stands first; the kind is the question's first word."""
    questions = []
    for row in _rows(path):
        options = [plain_answer(option) for option in row["options"].split(" | ")]
        answer = options[0]
        questions.append(
            Question(
                row["image"],
                row["question"],
                answer,
                row["question"].split()[0].lower(),
                shuffled_options(options, row["image"], row["question"]),
            )
        )
    return questions


def read_yes_no(path: Path) -> list[Question]:
    """Reads a table of yes/no questions."""
    return [Question(row["image"], row["question"], plain_answer(row["answer"]), "yesno") for row in _rows(path)]


def read_question_set(folder: Path, split: str) -> QuestionSet:
    """Finds out which of the known forms a folder has and reads one split of it."""
    lines, table = folder / f"questions_{split}.jsonl", folder / f"questions_{split}.csv"
    if lines.is_file():
        questions = read_questions(lines)
    elif table.is_file():
        reader: Callable[[Path], list[Question]] = read_visual7w if "options" in _columns(table) else read_yes_no
        questions = reader(table)
    else:
        raise NotFoundError(
            f"{folder} has neither questions_{split}.jsonl nor questions_{split}.csv",
            hint="docs/questions.md describes the folders that can be read",
        )
    return QuestionSet(folder.name, folder / "images", questions)


def _columns(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines).fieldnames or [])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
