"""The settings of the whole caption training, stage by stage, in one frozen place."""

from __future__ import annotations

from dataclasses import dataclass, field

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.training.caption_model import FULL_PRECISION, CaptionConfig
from mobile_multimodal.training.student import twin_config
from mobile_multimodal.training.trainer import TrainSettings


@dataclass(frozen=True)
class CaptionRecipe:
    """What `mobile-mm train caption` runs; `student` is the shape and the bit widths of the result.

    `effort` scales the steps of every stage: 1 is the recipe of the shipped model, 0.01 shows that everything runs.
    """

    student: CaptionConfig = field(default_factory=lambda: CaptionConfig(layers=3))
    views: int = 6
    unlabelled_views: int = 2
    smoothing: float = 0.1
    dropout: float = 0.15
    seed: int = 0
    effort: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.effort <= 10:
            raise InvalidInputError(f"effort is {self.effort}, expected 0 < effort <= 10", hint="1 is the whole recipe")

    @property
    def teacher_config(self) -> CaptionConfig:
        config = twin_config(self.student)
        assert config.bits == FULL_PRECISION
        return config

    def teacher_settings(self) -> TrainSettings:
        """Captions of people, cross-entropy."""
        return self._settings(rounds=4, steps=191, rate=6e-4, pictures=32, warmup=200, decay=0.05)

    def reinforced_settings(self) -> TrainSettings:
        """Self-critical, in full precision: the student's teacher, and its twin in a comparison."""
        return self._settings(rounds=10, steps=200, rate=8e-5, average=True)

    def student_settings(self) -> TrainSettings:
        """Imitation of the reinforced model at low bits."""
        return self._settings(rounds=4, steps=150, rate=4e-4, warmup=30)

    def _settings(
        self,
        rounds: int,
        steps: int,
        rate: float,
        pictures: int = 16,
        warmup: int = 10,
        decay: float = 0.0,
        average: bool = False,
    ) -> TrainSettings:
        return TrainSettings(
            rounds=rounds,
            learning_rate=rate,
            batch_size=pictures,
            steps_per_round=max(1, round(steps * self.effort)),
            warmup_steps=round(warmup * self.effort),
            weight_decay=decay,
            average_rounds=average,
            seed=self.seed,
        )
