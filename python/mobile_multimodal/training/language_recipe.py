"""The settings of the whole language training, stage by stage, in one frozen place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.training.language_sets import CAPTIONS, FOREIGN, OPTIONS, SHAPES, STAMPS, YES_NO
from mobile_multimodal.training.question_batches import OPEN, STATEMENTS, YES_OR_NO, QuestionMix
from mobile_multimodal.training.question_objectives import Noise
from mobile_multimodal.training.trainer import TrainSettings


def _views() -> dict[str, int]:
    return {CAPTIONS: 8, OPTIONS: 2, YES_NO: 2, SHAPES: 1, STAMPS: 1}


def _mix() -> QuestionMix:
    return QuestionMix(offered=24, generated={CAPTIONS: 48, STAMPS: 40, SHAPES: 40, FOREIGN: 8})


def _shapes_mix() -> QuestionMix:
    generated = {CAPTIONS: 10, STAMPS: 10, SHAPES: 132, FOREIGN: 2}
    return QuestionMix(options=20, open=6, yes_no=8, statements=4, generated=generated)


def _choices_mix() -> QuestionMix:
    generated = {CAPTIONS: 16, STAMPS: 28, SHAPES: 20, FOREIGN: 1}
    return QuestionMix(options=40, open=4, yes_no=4, statements=2, generated=generated)


def _loss_weights() -> dict[str, float]:
    return {OPEN: 0.5, YES_OR_NO: 1.0, STATEMENTS: 0.5}


@dataclass(frozen=True)
class LanguageRecipe:
    """What `mobile-mm train language` runs; `shape` changes fields of LanguageConfig.

    `effort` scales the steps of every stage: 1 is the whole recipe, 0.001 shows that everything runs.
    """

    shape: Mapping[str, int] = field(default_factory=dict)
    scenes: int = 6000
    views: Mapping[str, int] = field(default_factory=_views)
    # Errors of the shared layers before the last, against the last's.
    earlier_layers_share: float = 0.15
    # Models of different seeds whose mean teaches retrieval.
    retrieval_teachers: int = 3
    # Dropout of the hidden layer and of the inputs: 6,000 pictures are learned by heart without.
    teacher_dropout: tuple[float, float] = (0.6, 0.3)
    retrieval_dropout: tuple[float, float] = (0.2, 0.1)
    retrieval_student_dropout: tuple[float, float] = (0.1, 0.1)
    # Pairs of a retrieval batch whose text was made from a question: for teachers, and for who imitates them.
    sentences_share: float = 0.16
    imitated_sentences_share: float = 0.33
    mix: QuestionMix = field(default_factory=_mix)
    # Questions of a generated set that also come with options.
    offered_questions: int = 1000
    # Beside 1 for options and generated sets.
    loss_weights: Mapping[str, float] = field(default_factory=_loss_weights)
    # Against overfitting: 11,616 questions with options are few (docs/experiments/0005-language-tower.md).
    answers_dropout: float = 0.3
    options_smoothing: float = 0.1
    answers_noise: Noise = field(default_factory=lambda: Noise(states=0.1, features=0.1, cells=0.1))
    student_dropout: float = 0.1
    # False statements that resemble the true one.
    hard_share: float = 0.7
    # The plain loss of a student that imitates its twin's answers, and the sets that the twin does not teach.
    plain_share: float = 0.3
    untaught: tuple[str, ...] = (SHAPES,)
    # Small networks of different seeds whose mean, beside the file's own scores, teaches to choose.
    choosers: int = 4
    chooser_hidden: int = 768
    chooser_dropout: float = 0.5
    # Where training goes on from a model file: first shapes, which need ten times the questions, then choices.
    shapes_mix: QuestionMix = field(default_factory=_shapes_mix)
    choices_mix: QuestionMix = field(default_factory=_choices_mix)
    choices_plain_share: float = 0.1
    tuning_noise: Noise = field(default_factory=lambda: Noise(states=0.1, cells=0.1))
    # People's choices that are asked of another picture, where only the teachers have an opinion.
    foreign_share: float = 0.5
    # Answers are learned that Visual7W's people gave so often, or the generated sets.
    least_answers: int = 3
    least_generated_answers: int = 5
    # Questions of a generated set that are asked on dev.
    dev_questions: int = 1500
    seed: int = 0
    effort: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.effort <= 10:
            raise InvalidInputError(f"effort is {self.effort}, expected 0 < effort <= 10", hint="1 is the whole recipe")

    def shared_settings(self) -> TrainSettings:
        """Low-bit shared layers give the states of the float ones."""
        return self._settings(steps=1500, every=300, rate=4e-4, batch=192, decay=0.01)

    def teacher_settings(self, number: int) -> TrainSettings:
        """Retrieval in full precision, by itself; `number` counts the teachers from 0."""
        settings = self._settings(steps=820, every=164, rate=7e-4, batch=608, decay=0.1, warmup=50)
        return replace(settings, seed=self.seed * self.retrieval_teachers + number)

    def retrieval_settings(self) -> TrainSettings:
        """Imitation of the teachers' mean, in full precision: the twin."""
        return self._settings(steps=350, every=70, rate=5e-4, batch=768, decay=0.1, warmup=50)

    def retrieval_student_settings(self) -> TrainSettings:
        """The same at low bits, from the twin's weights."""
        return self.retrieval_settings()

    def answers_settings(self) -> TrainSettings:
        """The float twin of the question model; the round that is best on dev is kept."""
        return self._settings(steps=1000, every=200, rate=5e-4, batch=self.mix.total, decay=0.02, keep_best=True)

    def answers_student_settings(self) -> TrainSettings:
        """Imitation of the twin at low bits."""
        return self._settings(steps=400, every=100, rate=4e-4, batch=self.mix.total, decay=0.1, keep_best=True)

    def chooser_settings(self, number: int) -> TrainSettings:
        """A chooser by itself, 8 passes; `number` counts them from 0."""
        settings = self._settings(steps=728, every=182, rate=1e-3, batch=128, decay=0.05, warmup=0)
        return replace(settings, seed=self.seed * self.choosers + number)

    def shapes_settings(self) -> TrainSettings:
        """The file's question model goes on at low bits, with shapes above all."""
        return self._settings(steps=1360, every=200, rate=3e-4, batch=self.shapes_mix.total, decay=0.1, warmup=40)

    def choices_settings(self) -> TrainSettings:
        """It goes on, with choices above all; the mean of the rounds is kept."""
        settings = self._settings(steps=420, every=105, rate=2e-4, batch=self.choices_mix.total, decay=0.1, warmup=50)
        return replace(settings, average_rounds=True)

    def _settings(
        self,
        steps: int,
        every: int,
        rate: float,
        batch: int,
        decay: float,
        warmup: int = 100,
        keep_best: bool = False,
    ) -> TrainSettings:
        """`every`: steps between two evaluations, at full effort and below."""
        total = max(1, round(steps * self.effort))
        rounds = max(1, round(total / every))
        return TrainSettings(
            rounds=rounds,
            learning_rate=rate,
            batch_size=batch,
            steps_per_round=max(1, round(total / rounds)),
            warmup_steps=round(warmup * min(1.0, self.effort)),
            weight_decay=decay,
            keep_best=keep_best,
            seed=self.seed,
        )
