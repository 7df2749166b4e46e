"""Fits the temperatures of a question model's two heads on the dev questions."""

from __future__ import annotations

import torch

from mobile_multimodal.training.language_material import LanguageMaterial
from mobile_multimodal.training.language_model import QuestionModel
from mobile_multimodal.training.language_text import TextStates
from mobile_multimodal.training.question_dev import QuestionDev
from mobile_multimodal.training.temperature import Calibration, calibrate

ANSWER_HEAD, SCORE_HEAD = "answer_head", "score_head"


def calibrate_heads(model: QuestionModel, states: TextStates, material: LanguageMaterial) -> dict[str, Calibration]:
    """By head. Each set counts the same for the answers' temperature, however many questions it has."""
    sets = material.dev_questions()
    states.add(material.dev_texts(sets))
    # As the core computes: the temperature is for its logits.
    dev = QuestionDev(sets, material.pictures("dev"), states, material.answers, exact=True)
    logits, targets, weights = [], [], []
    for questions in sets.values():
        # An answer that the model does not have cannot be likely: it says nothing about a temperature.
        classes = [material.answers.class_of(question.answer) for question in questions]
        known = [(q, c) for q, c in zip(questions, classes, strict=True) if c is not None]
        if known:
            logits.append(dev.answer_logits(model, [question for question, _ in known]))
            targets.append(torch.tensor([answer_class for _, answer_class in known]))
            weights.append(torch.full((len(known),), 1 / len(known)))
    scores, right = dev.option_scores(model)
    return {
        ANSWER_HEAD: calibrate(torch.cat(logits), torch.cat(targets), torch.cat(weights)),
        SCORE_HEAD: calibrate(scores, right, torch.ones(len(right))),
    }
