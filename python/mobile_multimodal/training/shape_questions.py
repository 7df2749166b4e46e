"""Writes the questions of easy-VQA (coloured shapes on 64 x 64 pixels) in the form that training reads."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from mobile_multimodal.evaluation.question_sets import EasyVqa, Question, write_questions


def write_shape_questions(source: Path, folder: Path) -> dict[str, list[Question]]:
    """Copies the pictures of the package's folder `source` to folder/images, and its train and test split (as dev)."""
    written = {}
    for split in ("train", "dev"):
        found = EasyVqa().read(source, split)
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        for name in sorted({question.image for question in found.questions}):
            shutil.copyfile(found.images / name, folder / "images" / split / name)
        written[split] = [replace(question, image=f"{split}/{question.image}") for question in found.questions]
        write_questions(folder / f"questions_{split}.jsonl", written[split])
    return written
