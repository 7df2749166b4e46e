"""Makes the generated question sets of a language training: from captions, shapes, stamps and from each other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from mobile_multimodal.errors import MissingExtraError, NotFoundError
from mobile_multimodal.evaluation.caption_references import read_captions
from mobile_multimodal.evaluation.question_sets import Question
from mobile_multimodal.training.answer_sentences import write_sentences
from mobile_multimodal.training.caption_questions import write_caption_questions
from mobile_multimodal.training.foreign_questions import write_foreign_questions
from mobile_multimodal.training.language_sets import CAPTIONS, FOREIGN, OPTIONS, SHAPES, SPLITS, STAMPS, YES_NO
from mobile_multimodal.training.question_command import shapes_folder
from mobile_multimodal.training.shape_questions import write_shape_questions
from mobile_multimodal.training.stamp_scenes import write_scenes

_Write = Callable[[Path], Mapping[str, Sequence[Question]]]


def make_generated_sets(data: Path, out: Path, stamps: Path, scenes: int) -> None:
    """Writes the sets that `out` does not hold yet; a set appears when it is complete.

    Shapes and stamps are left out, with a line that says so, where their package is not installed.
    """
    photos = [data / OPTIONS, data / YES_NO]
    captions = data / CAPTIONS
    out.mkdir(parents=True, exist_ok=True)
    make_set(out / CAPTIONS, lambda folder: write_caption_questions(captions, folder))
    _make_if_installed(out / SHAPES, lambda folder: write_shape_questions(shapes_folder(), folder))
    backgrounds = [captions / "images" / name for name in sorted(read_captions(captions, ["train"]))]
    _make_if_installed(out / STAMPS, lambda folder: write_scenes(folder, backgrounds, stamps, scenes))
    if (out / SHAPES).is_dir():
        make_set(out / FOREIGN, lambda folder: write_foreign_questions(folder, out / CAPTIONS, out / SHAPES, photos))
    else:
        tqdm.write(f"questions: {FOREIGN} is left out: it needs {SHAPES}")
    if not all((out / f"sentences_{split}.jsonl").is_file() for split in SPLITS):
        made = write_sentences(photos, out)
        tqdm.write(f"questions: sentences: {', '.join(f'{len(found)} {split}' for split, found in made.items())}")


def _make_if_installed(folder: Path, write: _Write) -> None:
    try:
        make_set(folder, write)
    except (MissingExtraError, NotFoundError) as error:
        tqdm.write(f"questions: {folder.name} is left out: {error.message}")


def make_set(folder: Path, write: _Write) -> None:
    """Writes a set to its folder, unless it is there: first beside it, so that a half one is none."""
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    written = write(partial)
    os.replace(partial, folder)
    tqdm.write(f"questions: {folder.name}: {', '.join(f'{len(found)} {split}' for split, found in written.items())}")
