"""The settings of the whole caption training, stage by stage, in one frozen place."""

from __future__ import annotations

from dataclasses import dataclass, field

from mobile_multimodal.training.caption_model import FULL_PRECISION, CaptionConfig
from mobile_multimodal.training.student import twin_config
from mobile_multimodal.training.trainer import TrainSettings


@dataclass(frozen=True)
class CaptionRecipe:
    """What `mobile-mm train caption` runs; `student` is the shape and the bit widths of the result."""

    student: CaptionConfig = field(default_factory=lambda: CaptionConfig(layers=3))
    views: int = 6
    smoothing: float = 0.1
    dropout: float = 0.15
    seed: int = 0
    teacher_rounds: int = 5
    twin_rounds: int = 3
    adapt_rounds: int = 1
    student_rounds: int = 2

    @property
    def teacher_config(self) -> CaptionConfig:
        config = twin_config(self.student)
        assert config.bits == FULL_PRECISION
        return config

    def teacher_settings(self) -> TrainSettings:
        """Captions of people, cross-entropy."""
        return TrainSettings(rounds=self.teacher_rounds, learning_rate=6e-4, seed=self.seed)

    def twin_settings(self) -> TrainSettings:
        """Self-critical training in full precision."""
        return TrainSettings(
            rounds=self.twin_rounds,
            learning_rate=5e-5,
            pictures_per_step=16,
            steps_per_round=200,
            warmup_steps=20,
            weight_decay=0.0,
            seed=self.seed,
        )

    def adapt_settings(self) -> TrainSettings:
        """First steps on the low-bit levels, guided by the teacher."""
        return TrainSettings(
            rounds=self.adapt_rounds, learning_rate=4e-4, warmup_steps=30, weight_decay=0.0, seed=self.seed
        )

    def student_settings(self) -> TrainSettings:
        """Imitation of the twin."""
        return TrainSettings(
            rounds=self.student_rounds, learning_rate=3e-4, warmup_steps=30, weight_decay=0.0, seed=self.seed
        )
