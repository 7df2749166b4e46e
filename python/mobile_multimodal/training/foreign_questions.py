"""Puts questions about photographs to pictures of shapes and the other way round: none of them has an answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from mobile_multimodal.evaluation.question_sets import (
    UNANSWERABLE,
    Question,
    read_question_set,
    read_questions,
    write_questions,
)
from mobile_multimodal.training.unanswerable_questions import make_unanswerable

# Kinds that ask about a thing on a photograph; "yes" or "no" can be said of anything.
_ABOUT_THINGS = ("colour", "what", "doing", "where")
# Such questions name no thing, and a picture of a shape answers them.
_OPEN = ("what is this", "what is in", "what do you")


def write_foreign_questions(
    folder: Path, captioned: Path, shapes: Path, photos: Sequence[Path]
) -> dict[str, list[Question]]:
    """Writes a set whose images/ holds links to the images/ of the others.

    Two thirds are questions of the set in `captioned` on pictures of the set in `shapes`, the rest shape questions,
    remarks and nonsense on the photographs of the folders `photos`; each folder's train and dev pictures stay apart.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for source in (shapes, *photos):
        link = folder / "images" / source.name
        if not link.exists():
            link.symlink_to((source / "images").resolve(), target_is_directory=True)
    written = {}
    for split, count in (("train", 4500), ("dev", 450)):
        random = Random(f"foreign {split}")
        asked = [
            question
            for question in read_questions(captioned / f"questions_{split}.jsonl")
            if question.kind in _ABOUT_THINGS and not question.question.lower().startswith(_OPEN)
        ]
        pictures = sorted({question.image for question in read_questions(shapes / f"questions_{split}.jsonl")})
        made = [
            Question(f"{shapes.name}/{random.choice(pictures)}", question.question, UNANSWERABLE, UNANSWERABLE)
            for question in random.sample(asked, min(len(asked), count * 2 // 3))
        ]
        for source in photos:
            names = _pictures_of(source, split)
            share = (count - count * 2 // 3) // len(photos)
            made += [
                Question(f"{source.name}/{question.image}", question.question, UNANSWERABLE, UNANSWERABLE)
                for question in make_unanswerable(names, [], share, random)
            ]
        random.shuffle(made)
        write_questions(folder / f"questions_{split}.jsonl", made)
        written[split] = made
    return written


def _pictures_of(folder: Path, split: str) -> list[str]:
    return sorted({question.image for question in read_question_set(folder, split).questions})
