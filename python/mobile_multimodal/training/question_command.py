"""Makes questions for training: `mobile-mm questions --captions FOLDER --out FOLDER`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_multimodal.errors import InvalidInputError, MissingExtraError, NotFoundError

if TYPE_CHECKING:
    from mobile_multimodal.evaluation.question_sets import Question


def add_questions_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm questions` takes."""
    parser.add_argument("--out", required=True, type=Path, help="folder for a folder of each set")
    parser.add_argument("--captions", type=Path, metavar="FOLDER", help="images/ and captions_{train,dev}.csv")
    parser.add_argument("--shapes", action="store_true", help="the questions of the package easy-vqa")
    parser.add_argument(
        "--stamps", type=Path, metavar="FOLDER", help="stamps of Tux Paint, such as /usr/share/tuxpaint/stamps"
    )
    parser.add_argument(
        "--pictures", type=int, default=6000, metavar="N", help="pictures composed of stamps (default: %(default)s)"
    )
    parser.add_argument(
        "--answered",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="sets of questions with answers to make sentences from, and pictures for questions that have none",
    )


def run_questions(arguments: argparse.Namespace) -> int:
    """Writes the sets that were asked for; returns the exit code."""
    _check(arguments)
    from mobile_multimodal.training.answer_sentences import write_sentences
    from mobile_multimodal.training.caption_questions import write_caption_questions
    from mobile_multimodal.training.foreign_questions import write_foreign_questions
    from mobile_multimodal.training.shape_questions import write_shape_questions
    from mobile_multimodal.training.stamp_scenes import write_scenes

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    captions: Path | None = arguments.captions
    if captions is not None:
        _report(captions.name, write_caption_questions(captions, out / captions.name))
    if arguments.shapes:
        _report("easy_vqa", write_shape_questions(shapes_folder(), out / "easy_vqa"))
    if arguments.stamps is not None:
        photos = [] if captions is None else _train_pictures(captions)
        _report("stamps", write_scenes(out / "stamps", photos, arguments.stamps, arguments.pictures))
    if captions is not None and arguments.shapes:
        sources = (out / captions.name, out / "easy_vqa", arguments.answered)
        _report("foreign", write_foreign_questions(out / "foreign", *sources))
    if arguments.answered:
        for split, sentences in write_sentences(arguments.answered, out).items():
            print(f"sentences, {split}: {len(sentences)}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.captions is None and not arguments.shapes and arguments.stamps is None and not arguments.answered:
        raise InvalidInputError(
            "nothing to make questions from", hint="pass --captions, --shapes, --stamps or --answered"
        )
    # A tenth is for dev; both splits need a picture.
    if arguments.pictures < 10:
        raise InvalidInputError(f"option --pictures is {arguments.pictures}, expected 10 or more", hint="try 6000")
    for folder in (arguments.captions, arguments.stamps, *arguments.answered):
        if folder is not None and not folder.is_dir():
            raise NotFoundError(f"the folder {folder} is not there", hint="pass the folder of a data set")


def shapes_folder() -> Path:
    try:
        import easy_vqa
    except ImportError as error:
        raise MissingExtraError(
            "--shapes needs the package easy-vqa", hint="install it with `pip install 'mobile-multimodal[train]'`"
        ) from error
    return Path(easy_vqa.__file__).parent / "data"


def _train_pictures(folder: Path) -> list[Path]:
    from mobile_multimodal.evaluation.caption_references import read_captions

    return [folder / "images" / name for name in sorted(read_captions(folder, ["train"]))]


def _report(name: str, written: Mapping[str, Sequence[Question]]) -> None:
    for split, questions in written.items():
        kinds = Counter(question.kind for question in questions).most_common()
        print(f"{name}, {split}: {len(questions)} questions: " + ", ".join(f"{kind} {count}" for kind, count in kinds))
