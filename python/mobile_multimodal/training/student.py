"""Starts a low-bit student from a full-precision teacher of the same shape."""

from __future__ import annotations

from dataclasses import replace

import torch

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.quantization.linear import QuantizedLinear
from mobile_multimodal.training.caption_model import FULL_PRECISION, CaptionConfig, CaptionModel
from mobile_multimodal.training.checkpoint import Checkpoint


def twin_config(config: CaptionConfig) -> CaptionConfig:
    """The same architecture in full precision."""
    return replace(config, bits=FULL_PRECISION, memory_bits=FULL_PRECISION, embedding_bits=FULL_PRECISION)


def student_from_teacher(
    teacher: Checkpoint, config: CaptionConfig, dropout: float = 0.0, seed: int = 0, scale_rule: str = "least_squares"
) -> CaptionModel:
    """A student of `config` with the teacher's weights and scales started from them."""
    if twin_config(config) != teacher.config:
        raise InvalidInputError(
            f"student {config} does not have the shape of its teacher {teacher.config}",
            hint="change bit widths only",
        )
    student = CaptionModel(config, dropout, seed)
    missing, unexpected = student.load_state_dict(teacher.state_dict, strict=False)
    wrong = [name for name in missing if not name.endswith(".scale")] + list(unexpected)
    if wrong:
        raise InvalidInputError(f"teacher and student differ in {wrong}", hint="pass a teacher made by this version")
    with torch.no_grad():
        for layer in student.modules():
            if isinstance(layer, QuantizedLinear):
                layer.reset_scale(scale_rule)
    return student
