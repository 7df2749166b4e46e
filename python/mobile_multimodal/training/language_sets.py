"""Reads all that the language tower learns from: questions, captions and sentences, with their pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mobile_multimodal.errors import NotFoundError
from mobile_multimodal.evaluation.caption_references import read_captions
from mobile_multimodal.evaluation.question_sets import Question, read_question_set
from mobile_multimodal.training.answer_sentences import read_sentences
from mobile_multimodal.training.answer_vocabulary import answer_form
from mobile_multimodal.training.language_text import Text, has_words, question_form, statement_form
from mobile_multimodal.training.picture_features import picture_key

CAPTIONS, OPTIONS, YES_NO = "flickr8k", "visual7w", "vqa_yesno"
SHAPES, STAMPS, FOREIGN = "easy_vqa", "stamps", "foreign"
SPLITS = ("train", "dev")
# Sets that the stage `questions` makes, in their order of making; `foreign` borrows its pictures from the others.
GENERATED = (CAPTIONS, SHAPES, STAMPS, FOREIGN)
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class AskedQuestion:
    """A question in normal form about a picture; `right` is the place of the answer among the options, if any."""

    picture: str
    question: str
    answer: str
    kind: str
    options: tuple[str, ...] = ()
    right: int = 0

    @property
    def pairs(self) -> list[Text]:
        """The question with each option behind it."""
        return [(self.question, option) for option in self.options]


def names_a_side(text: Text) -> bool:
    """Whether a text says left or right, and so is wrong of the mirrored picture."""
    return bool(_SIDE.search(text if isinstance(text, str) else " ".join(text)))


def asked(source: str, question: Question) -> AskedQuestion:
    """A question of the set `source` in the form that training takes."""
    image = question.image
    if source == FOREIGN:
        source, _, image = image.partition("/")
    options = tuple(statement_form(option) for option in question.options)
    right = question.options.index(question.answer) if options else 0
    return AskedQuestion(
        picture_key(source, image),
        question_form(question.question),
        answer_form(question.answer),
        question.kind,
        options,
        right,
    )


class LanguageSets:
    """The data folder and the generated sets beside it; each is read when it is asked for."""

    def __init__(self, data: Path, generated: Path) -> None:
        self._data, self._generated = data, generated

    def folder(self, source: str) -> Path:
        """The folder of a set whose pictures have features of their own."""
        return self._data / source if source in (CAPTIONS, OPTIONS, YES_NO) else self._generated / source

    def generated(self) -> list[str]:
        """The generated sets that are there."""
        names = [name for name in GENERATED if (self._generated / name).is_dir()]
        if CAPTIONS not in names:
            raise NotFoundError(f"{self._generated} has no questions", hint="run --stage questions first")
        return names

    def sources(self) -> list[str]:
        """All sets whose pictures have features of their own."""
        return [CAPTIONS, OPTIONS, YES_NO, *(n for n in self.generated() if n not in (CAPTIONS, FOREIGN))]

    def questions(self, source: str, split: str) -> list[AskedQuestion]:
        """The questions of a generated set, of `visual7w` or of `vqa_yesno`."""
        folder = self._data / source if source in (OPTIONS, YES_NO) else self._generated / source
        found = read_question_set(folder, split).questions
        # The core answers no question without a word, such as "?!": training need not learn what to say to it.
        return [asked(source, q) for q in found if all(has_words(text) for text in (q.question, *q.options))]

    def pictures(self, source: str, split: str) -> list[Path]:
        """The picture files of a set's split, in order of their names."""
        if source == CAPTIONS:
            names: Iterable[str] = read_captions(self._data / CAPTIONS, [split])
            return [self._data / CAPTIONS / "images" / name for name in sorted(names)]
        found = read_question_set(self.folder(source), split)
        return [found.images / name for name in sorted({question.image for question in found.questions})]

    def captions(self, split: str) -> dict[str, list[str]]:
        """Captions in normal form by picture."""
        found = read_captions(self._data / CAPTIONS, [split])
        return {picture_key(CAPTIONS, name): [statement_form(text) for text in found[name]] for name in sorted(found)}

    def sentences(self, split: str) -> dict[str, list[str]]:
        """Sentences made from questions and their answers, in normal form by picture."""
        sentences: dict[str, list[str]] = {}
        path = self._generated / f"sentences_{split}.jsonl"
        if not path.is_file():
            raise NotFoundError(f"{path} is not there", hint="run --stage questions first")
        for entry in read_sentences(path):
            sentences.setdefault(picture_key(entry.set, entry.image), []).append(statement_form(entry.sentence))
        return sentences
