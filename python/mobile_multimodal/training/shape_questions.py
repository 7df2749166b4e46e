"""Writes the questions of easy-VQA (coloured shapes on 64 x 64 pixels) in the form that training reads."""

from __future__ import annotations

import shutil
from pathlib import Path

from mobile_multimodal.evaluation.question_sets import Question, write_questions

_COLOURS = {"black", "blue", "brown", "gray", "green", "red", "teal", "yellow"}
_SHAPES = {"circle", "rectangle", "triangle"}


def kind_of_shape_question(answer: str) -> str:
    """What an easy-VQA question asks for, by its answer."""
    if answer in _COLOURS:
        return "colour"
    return "shape" if answer in _SHAPES else "yesno"


def write_shape_questions(folder: Path) -> dict[str, list[Question]]:
    """Copies the pictures of the package easy_vqa to folder/images and writes its train and test split (as dev)."""
    import easy_vqa

    written = {}
    sources = {
        "train": (easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()),
        "dev": (easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()),
    }
    for split, ((questions, answers, pictures), paths) in sources.items():
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        for picture, path in paths.items():
            shutil.copyfile(path, folder / "images" / split / f"{picture}.png")
        written[split] = [
            Question(f"{split}/{picture}.png", question, answer, kind_of_shape_question(answer))
            for question, answer, picture in zip(questions, answers, pictures, strict=True)
        ]
        write_questions(folder / f"questions_{split}.jsonl", written[split])
    return written
