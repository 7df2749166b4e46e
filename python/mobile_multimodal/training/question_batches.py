"""Mixes batches of many kinds of questions: options, open ones, yes or no, statements and generated sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from mobile_multimodal.training.answer_vocabulary import NO, YES, AnswerVocabulary
from mobile_multimodal.training.language_sets import AskedQuestion, names_a_side
from mobile_multimodal.training.language_text import Text
from mobile_multimodal.training.picture_features import PictureFeatures
from mobile_multimodal.training.statements import Statements

# Parts of a batch whose losses are weighed apart; beside them, each generated set has its name.
OPEN, YES_OR_NO, STATEMENTS = "open", "yes_no", "statements"
_FROM_A_PICTURE = 4  # questions of a generated set that share a look at its picture


@dataclass(frozen=True)
class QuestionMix:
    """How many questions of each kind a batch of `total` has; a statement counts twice: a true one and a false one.

    `offered` are generated questions with options beside them.
    """

    options: int = 24
    offered: int = 0
    open: int = 16
    yes_no: int = 48
    statements: int = 24
    generated: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return (
            self.options + self.offered + self.open + self.yes_no + 2 * self.statements + sum(self.generated.values())
        )


@dataclass(frozen=True)
class QuestionBatch:
    """Texts about pictures: first every option of the questions that have some, then questions to answer.

    features [pictures, 49, 1280]; owner [texts]: the picture of each text; option_counts [choices] and right
    [choices]: how many options each choice has and which is right; targets [texts - options]: the class of each answer;
    parts: which part each target belongs to; offered: how many of the choices, the last ones, are generated questions.
    """

    features: Tensor
    texts: list[Text]
    owner: Tensor
    option_counts: Tensor
    right: Tensor
    targets: Tensor
    parts: list[str]
    offered: int = 0

    @property
    def options(self) -> int:
        return int(self.option_counts.sum())

    def without(self, parts: Collection[str]) -> QuestionBatch:
        """The batch without questions of these parts, and without the pictures that only they are about."""
        is_kept = torch.tensor([True] * self.options + [part not in parts for part in self.parts])
        pictures, owner = self.owner[is_kept].unique(return_inverse=True)
        return replace(
            self,
            features=self.features[pictures],
            texts=[text for text, kept in zip(self.texts, is_kept.tolist(), strict=True) if kept],
            owner=owner,
            targets=self.targets[is_kept[self.options :]],
            parts=[part for part in self.parts if part not in parts],
        )


class QuestionBatches:
    """Endless batches; where a set runs out it begins again in another order."""

    def __init__(
        self,
        pictures: PictureFeatures,
        answers: AnswerVocabulary,
        mix: QuestionMix,
        choices: Sequence[AskedQuestion],
        yes_no: Sequence[AskedQuestion],
        statements: Statements,
        generated: Mapping[str, Sequence[AskedQuestion]],
        hard_share: float = 0.7,
        offered: Sequence[AskedQuestion] = (),
    ) -> None:
        self._pictures, self._answers, self._mix, self._hard_share = pictures, answers, mix, hard_share
        self._offered = list(offered)
        self._choices, self._yes_no, self._statements = list(choices), _known(yes_no, answers), statements
        self._open = _known(choices, answers)
        self._generated = {name: _by_picture(_known(asked, answers)) for name, asked in generated.items()}

    def __len__(self) -> int:
        generated = sum(len(group) for groups in self._generated.values() for group in groups)
        return len(self._choices) + len(self._yes_no) + len(self._statements) + generated

    def batches(self, size: int, random: np.random.Generator) -> Iterator[QuestionBatch]:
        """Batches of about `size` questions, in the proportions of the mix, without end."""

        def share(count: int) -> int:
            return max(1, round(count * size / self._mix.total)) if count else 0

        offered = _Deck(len(self._offered), random)
        choices, open_ones = _Deck(len(self._choices), random), _Deck(len(self._open), random)
        yes_no, statements = _Deck(len(self._yes_no), random), _Deck(len(self._statements), random)
        groups = {name: _Deck(len(found), random) for name, found in self._generated.items()}
        while True:
            draft = _Draft(self._answers)
            for place in choices.take(share(self._mix.options)):
                draft.offer(self._choices[place])
            for place in offered.take(share(self._mix.offered)):
                draft.offer(self._offered[place])
                draft.offered += 1
            for place in open_ones.take(share(self._mix.open)):
                draft.ask(self._open[place], OPEN)
            for place in yes_no.take(share(self._mix.yes_no)):
                draft.ask(self._yes_no[place], YES_OR_NO)
            self._state(draft, statements.take(share(self._mix.statements)), random)
            for name, found in self._generated.items():
                left = share(self._mix.generated.get(name, 0))
                while left > 0 and found:
                    group = found[groups[name].take(1)[0]]
                    drawn = random.permutation(len(group))[: min(left, _FROM_A_PICTURE)]
                    for place in drawn:
                        draft.ask(group[place], name)
                    left -= len(drawn)
            yield draft.finish(self._pictures, random)

    def _state(self, draft: _Draft, chosen: list[int], random: np.random.Generator) -> None:
        known = self._statements
        for place, other in zip(chosen, known.other_than(chosen, self._hard_share, random), strict=False):
            picture = known.pictures[place]
            draft.ask(AskedQuestion(picture, known.texts[place], YES, STATEMENTS), STATEMENTS)
            draft.ask(AskedQuestion(picture, known.texts[other], NO, STATEMENTS), STATEMENTS)


class _Deck:
    """Draws places without repetition until all were drawn."""

    def __init__(self, count: int, random: np.random.Generator) -> None:
        self._count, self._random = count, random
        self._left: list[int] = []

    def take(self, count: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < count and self._count:
            if not self._left:
                self._left = self._random.permutation(self._count).tolist()
            taken.append(self._left.pop())
        return taken


class _Draft:
    """Collects the questions of a batch; a picture that comes up twice is there once."""

    def __init__(self, answers: AnswerVocabulary) -> None:
        self._answers = answers
        self._rows: dict[str, int] = {}
        self._offered: list[tuple[Text, int]] = []
        self._asked: list[tuple[Text, int]] = []
        self._counts: list[int] = []
        self._right: list[int] = []
        self._targets: list[int] = []
        self._parts: list[str] = []
        self.offered = 0

    def offer(self, question: AskedQuestion) -> None:
        row = self._rows.setdefault(question.picture, len(self._rows))
        self._offered += [(pair, row) for pair in question.pairs]
        self._counts.append(len(question.options))
        self._right.append(question.right)

    def ask(self, question: AskedQuestion, part: str) -> None:
        target = self._answers.class_of(question.answer)
        assert target is not None, f"the answer {question.answer!r} has no class"
        self._asked.append((question.question, self._rows.setdefault(question.picture, len(self._rows))))
        self._targets.append(target)
        self._parts.append(part)

    def finish(self, pictures: PictureFeatures, random: np.random.Generator) -> QuestionBatch:
        entries = self._offered + self._asked
        sided = {row for text, row in entries if names_a_side(text)}
        keys = list(self._rows)
        views = pictures.draw_views(keys, [row in sided for row in range(len(keys))], random)
        return QuestionBatch(
            pictures.read(keys, views),
            [text for text, _ in entries],
            torch.tensor([row for _, row in entries]),
            torch.tensor(self._counts, dtype=torch.long),
            torch.tensor(self._right, dtype=torch.long),
            torch.tensor(self._targets, dtype=torch.long),
            self._parts,
            self.offered,
        )


def _known(questions: Sequence[AskedQuestion], answers: AnswerVocabulary) -> list[AskedQuestion]:
    return [question for question in questions if answers.class_of(question.answer) is not None]


def _by_picture(questions: Sequence[AskedQuestion]) -> list[list[AskedQuestion]]:
    groups: dict[str, list[AskedQuestion]] = defaultdict(list)
    for question in questions:
        groups[question.picture].append(question)
    return list(groups.values())
