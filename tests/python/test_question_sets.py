"""Checks that every form of question set is read, that options say nothing by their place, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mobile_multimodal.errors import InvalidInputError, NotFoundError
from mobile_multimodal.evaluation.question_sets import (
    Question,
    plain_answer,
    read_question_set,
    read_questions,
    shuffled_options,
    write_questions,
)


def test_visual7w_has_the_right_option_anywhere(tmp_path: Path) -> None:
    rows = [f"{i}.webp,Where is it?,In the Park.,In the Park. | At  sea. | At home. | In bed." for i in range(400)]
    (tmp_path / "questions_dev.csv").write_text("\n".join(["image,question,answer,options", *rows]), encoding="utf-8")
    questions = read_question_set(tmp_path, "dev").questions
    assert questions[0].answer == "in the park"
    assert questions[0].kind == "where"
    assert sorted(questions[0].options) == ["at home", "at sea", "in bed", "in the park"]
    places = Counter(question.options.index(question.answer) for question in questions)
    # 400 fair draws from four places: below 70 or above 130 is more than 3.4 standard deviations off.
    assert all(70 <= places[place] <= 130 for place in range(4))
    assert read_question_set(tmp_path, "dev").questions == questions


def test_the_order_of_options_depends_on_the_question_alone() -> None:
    options = ["a", "b", "c", "d"]
    assert shuffled_options(options, "picture", "question") == shuffled_options(options, "picture", "question")
    # Pinned: another Python or machine must not shuffle otherwise.
    assert shuffled_options(options, "1.webp", "Where?") == ("b", "c", "d", "a")
    assert shuffled_options(["x", "x", "y"], "same") in (("x", "y"), ("y", "x"))


def test_yes_no_questions_are_read(tmp_path: Path) -> None:
    (tmp_path / "questions_train.csv").write_text('image,question,answer\na.webp,"Is it, well, red?",Yes\n', "utf-8")
    found = read_question_set(tmp_path, "train")
    assert found.questions == [Question("a.webp", "Is it, well, red?", "yes", "yesno")]
    assert found.images == tmp_path / "images"


def test_easy_vqa_is_read_as_its_package_has_it(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    records = [["what color is the shape?", "teal", 7], ["is there a circle?", "no", 7], ["what shape?", "circle", 8]]
    (tmp_path / "test" / "questions.json").write_text(json.dumps(records), encoding="utf-8")
    found = read_question_set(tmp_path, "dev")
    assert [question.kind for question in found.questions] == ["colour", "yesno", "shape"]
    assert found.questions[0].image == "7.png"
    assert found.images == tmp_path / "test" / "images"


def test_json_lines_come_back_as_they_went(tmp_path: Path) -> None:
    questions = [Question("a.png", "Was ist das?", "käse", "what", ("käse", "brot")), Question("b.png", "?", "1", "x")]
    write_questions(tmp_path / "questions_dev.jsonl", questions)
    assert read_question_set(tmp_path, "dev").questions == questions


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "7", '{"image": "a", "question": "b", "answer": "c"}', '{"image": 1}'],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="line 2: not a question"):
        read_questions(path)


def test_options_without_the_answer_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    record = {"image": "a", "question": "b", "answer": "c", "kind": "d", "options": ["e", "f"]}
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="the answer 'c' is not among the options"):
        read_questions(path)


def test_a_folder_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"neither questions_dev\.jsonl nor questions_dev\.csv"):
        read_question_set(tmp_path, "dev")


def test_plain_answers() -> None:
    assert plain_answer("  In the  Park. ") == "in the park"
    assert plain_answer("U.S.") == "u.s"
