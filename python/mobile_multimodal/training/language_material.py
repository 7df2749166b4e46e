"""Puts the data sets into what each stage of language training takes: texts, pairs, batches of questions, dev sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

from mobile_multimodal.training.answer_vocabulary import AnswerVocabulary
from mobile_multimodal.training.language_recipe import LanguageRecipe
from mobile_multimodal.training.language_sets import FOREIGN, OPTIONS, YES_NO, AskedQuestion, LanguageSets
from mobile_multimodal.training.language_text import Text, TextStates, question_form
from mobile_multimodal.training.offered_options import offer_options
from mobile_multimodal.training.picture_features import PictureFeatures
from mobile_multimodal.training.question_batches import QuestionBatches, QuestionMix
from mobile_multimodal.training.question_dev import spread
from mobile_multimodal.training.retrieval_objectives import PairBatches
from mobile_multimodal.training.statements import Statements

# Texts on which the shared layers are judged.
_DEV_TEXTS = 4000


class LanguageMaterial:
    """The sets of a data folder and of a training's folder, in the recipe's proportions."""

    def __init__(self, data: Path, out: Path, recipe: LanguageRecipe) -> None:
        self.questions_folder, self.features_folder = out / "questions", out / "features"
        self.answers_path, self._recipe = out / "answers.json", recipe
        self.sets = LanguageSets(data, self.questions_folder)

    @cached_property
    def answers(self) -> AnswerVocabulary:
        """The model's answers: chosen once, then read from their file."""
        if self.answers_path.is_file():
            return AnswerVocabulary.load(self.answers_path)
        recipe = self._recipe
        people = [question.answer for question in self._asked(OPTIONS, "train")]
        made = [question.answer for name in self.sets.generated() for question in self._asked(name, "train")]
        chosen = AnswerVocabulary.of([(people, recipe.least_answers), (made, recipe.least_generated_answers)])
        chosen.save(self.answers_path)
        return chosen

    @cache  # noqa: B019 - one object a training
    def pictures(self, split: str) -> PictureFeatures:
        """The cached features of a split."""
        sources = self.sets.sources()
        views = {source: self._recipe.views[source] if split == "train" else 1 for source in sources}
        return PictureFeatures(self.features_folder, split, views)

    def texts(self, split: str) -> list[Text]:
        """Every text of a split, as questions and as statements; of dev an evenly spaced part."""
        questions = [q for name in (OPTIONS, YES_NO, *self.sets.generated()) for q in self._asked(name, split)]
        found = dict.fromkeys(_texts_of(questions))
        found |= dict.fromkeys(self._statements(split)[1])
        for texts in (*self.sets.captions(split).values(), *self.sets.sentences(split).values()):
            found |= dict.fromkeys(texts)
        every = max(1, len(found) // _DEV_TEXTS) if split == "dev" else 1
        return list(found)[::every]

    def retrieval_texts(self) -> list[Text]:
        """Captions of both splits and sentences of training."""
        sources = (self.sets.captions("train"), self.sets.captions("dev"), self.sets.sentences("train"))
        return [text for source in sources for texts in source.values() for text in texts]

    def pairs(self, sentences_share: float) -> PairBatches:
        """Pictures with a text, for retrieval."""
        captions, sentences = self.sets.captions("train"), self.sets.sentences("train")
        return PairBatches(self.pictures("train"), captions, sentences, sentences_share)

    def question_texts(self) -> list[Text]:
        """What question batches and dev questions ask."""
        questions = [q for name in (OPTIONS, YES_NO, *self.sets.generated()) for q in self._asked(name, "train")]
        questions += self._offered
        return [*_texts_of(questions), *self._statements("train")[1], *self.dev_texts(self.dev_questions())]

    def questions(self, states: TextStates, mix: QuestionMix) -> QuestionBatches:
        """Batches of all kinds of questions; `states` has question_texts and tells which statements are alike."""
        pictures, statements = self._statements("train")
        recipe = self._recipe
        return QuestionBatches(
            self.pictures("train"),
            self.answers,
            mix,
            self._asked(OPTIONS, "train"),
            self._asked(YES_NO, "train"),
            Statements(pictures, statements, states.means(statements)),
            {name: self._asked(name, "train") for name in self.sets.generated()},
            recipe.hard_share,
            self._offered,
        )

    @cached_property
    def _offered(self) -> list[AskedQuestion]:
        """Generated questions, and those of yes or no, with options beside them."""
        sources = [YES_NO, *(name for name in self.sets.generated() if name != FOREIGN)]
        limit = self._recipe.offered_questions
        return [q for name in sources for q in offer_options(self._asked(name, "train"), limit, self._recipe.seed)]

    def choices(self, split: str) -> Sequence[AskedQuestion]:
        """People's questions with options."""
        return self._asked(OPTIONS, split)

    def dev_questions(self) -> dict[str, list[AskedQuestion]]:
        """People's two sets whole, and a part of each generated one."""
        people = {name: list(self._asked(name, "dev")) for name in (OPTIONS, YES_NO)}
        made = {n: spread(self._asked(n, "dev"), self._recipe.dev_questions) for n in self.sets.generated()}
        return people | made

    @staticmethod
    def dev_texts(sets: Mapping[str, Sequence[AskedQuestion]]) -> list[Text]:
        """What an evaluation on these sets asks."""
        return [text for questions in sets.values() for text in _texts_of(questions)]

    def _statements(self, split: str) -> tuple[list[str], list[str]]:
        """Captions and sentences put as questions, with the picture of each in front."""
        found = [*self.sets.captions(split).items(), *self.sets.sentences(split).items()]
        pairs = [(picture, question_form(text)) for picture, texts in found for text in texts]
        return [picture for picture, _ in pairs], [text for _, text in pairs]

    @cache  # noqa: B019 - one object a training
    def _asked(self, source: str, split: str) -> Sequence[AskedQuestion]:
        return self.sets.questions(source, split)


def _texts_of(questions: Sequence[AskedQuestion]) -> list[Text]:
    return [text for question in questions for text in (question.question, *question.pairs)]
