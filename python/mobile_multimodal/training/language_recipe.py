"""The settings of the whole language training, stage by stage, in one frozen place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.training.language_sets import CAPTIONS, FOREIGN, OPTIONS, SHAPES, STAMPS, YES_NO
from mobile_multimodal.training.question_batches import GENERATED, OPEN, STATEMENTS, YES_OR_NO, QuestionMix
from mobile_multimodal.training.trainer import TrainSettings


def _views() -> dict[str, int]:
    return {CAPTIONS: 4, OPTIONS: 2, YES_NO: 2, SHAPES: 1, STAMPS: 1}


def _mix() -> QuestionMix:
    return QuestionMix(generated={CAPTIONS: 48, STAMPS: 40, SHAPES: 40, FOREIGN: 8})


def _loss_weights() -> dict[str, float]:
    return {OPEN: 0.5, YES_OR_NO: 1.0, STATEMENTS: 0.5, GENERATED: 1.0}


@dataclass(frozen=True)
class LanguageRecipe:
    """What `mobile-mm train language` runs; `shape` changes fields of LanguageConfig.

    `effort` scales the steps of every stage: 1 is the whole recipe, 0.002 shows that everything runs.
    """

    shape: Mapping[str, int] = field(default_factory=dict)
    scenes: int = 6000
    views: Mapping[str, int] = field(default_factory=_views)
    dropout: float = 0.3
    # The small networks of retrieval overfit 6,000 pictures within a minute otherwise.
    retrieval_dropout: float = 0.6
    hidden_cells: float = 0.15
    smoothing: float = 0.0
    # Errors of the layers before the last, against the last's.
    earlier_layers_share: float = 0.25
    # Pairs of a retrieval batch whose text was made from a question.
    sentences_share: float = 0.2
    mix: QuestionMix = field(default_factory=_mix)
    loss_weights: Mapping[str, float] = field(default_factory=_loss_weights)
    # False statements that resemble the true one.
    hard_share: float = 0.7
    # The plain loss of a student that imitates its twin's answers.
    plain_share: float = 0.3
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
        return self._settings(steps=1500, every=300, rate=4e-4, batch=224, decay=0.01)

    def retrieval_settings(self) -> TrainSettings:
        """The float twin."""
        return self._settings(steps=800, every=200, rate=7e-4, batch=608, decay=0.1)

    def retrieval_student_settings(self) -> TrainSettings:
        """Imitation of the twin at low bits."""
        return self._settings(steps=350, every=175, rate=5e-4, batch=608, decay=0.1)

    def answers_settings(self) -> TrainSettings:
        """The float twin of the question model; it overfits, so that the best round on dev is kept."""
        return self._settings(steps=1000, every=200, rate=8e-4, batch=self.mix.total, decay=0.1, keep_best=True)

    def answers_student_settings(self) -> TrainSettings:
        """Imitation of the twin at low bits."""
        return self._settings(steps=400, every=100, rate=4e-4, batch=self.mix.total, decay=0.1, keep_best=True)

    def _settings(
        self,
        steps: int,
        every: int,
        rate: float,
        batch: int,
        decay: float,
        pretrained: float = 1.0,
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
            warmup_steps=round(100 * min(1.0, self.effort)),
            weight_decay=decay,
            pretrained_rate=pretrained,
            keep_best=keep_best,
            seed=self.seed,
        )
