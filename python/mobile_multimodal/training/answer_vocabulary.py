"""Chooses the answers that the question model can give: unanswerable, yes, no, then what people answered often."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.evaluation.question_sets import UNANSWERABLE, plain_answer

YES, NO = "yes", "no"
_ARTICLES = ("a ", "an ", "the ")


def answer_form(text: str) -> str:
    """Lower case, no full stop, no article in front: "A dog." -> "dog"."""
    form = plain_answer(text).strip()
    for article in _ARTICLES:
        form = form.removeprefix(article)
    return form


class AnswerVocabulary:
    """The answers by class; 0 is `unanswerable`, 1 yes, 2 no."""

    def __init__(self, answers: Sequence[str]) -> None:
        if list(answers[:3]) != [UNANSWERABLE, YES, NO]:
            raise InvalidInputError(f"the first answers are {list(answers[:3])}", hint="expected unanswerable, yes, no")
        self.answers = list(answers)
        self._classes = {answer: index for index, answer in enumerate(self.answers)}

    def __len__(self) -> int:
        return len(self.answers)

    def class_of(self, answer: str) -> int | None:
        """None for an answer that is not among them."""
        return self._classes.get(answer)

    @staticmethod
    def of(groups: Iterable[tuple[Iterable[str], int]]) -> AnswerVocabulary:
        """Answers (in answer_form) that a group of them gives at least so often; the most frequent first."""
        found = dict.fromkeys((UNANSWERABLE, YES, NO))
        for given, least in groups:
            found |= dict.fromkeys(answer for answer, n in Counter(given).most_common() if answer and n >= least)
        return AnswerVocabulary(list(found))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.answers, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> AnswerVocabulary:
        return AnswerVocabulary(json.loads(path.read_text(encoding="utf-8")))
