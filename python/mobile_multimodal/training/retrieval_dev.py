"""Scores the retrieval model in PyTorch on the dev captions: recall at 1, 5 and 10 in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from mobile_multimodal.evaluation.retrieval import score_similarity
from mobile_multimodal.training.language_model import RetrievalModel
from mobile_multimodal.training.language_text import TextStates
from mobile_multimodal.training.picture_features import PictureFeatures
from mobile_multimodal.training.question_dev import DevFigures

HEADLINE = "text_to_image_recall_at_10"


class RetrievalDev:
    """Callable model -> recalls."""

    def __init__(self, captions: Mapping[str, Sequence[str]], pictures: PictureFeatures, states: TextStates) -> None:
        self._captions, self._pictures, self._states = captions, pictures, states

    @torch.no_grad()
    def __call__(self, model: RetrievalModel) -> DevFigures:
        model.eval()
        names = list(self._captions)
        texts = [text for name in names for text in self._captions[name]]
        owners = np.array([row for row, name in enumerate(names) for _ in self._captions[name]])
        similarity: Tensor = (
            model.embed_texts(self._states.means(texts)) @ model.embed_pictures(self._pictures.read_means(names)).T
        )
        found = score_similarity(names, texts, owners, similarity.numpy())
        return DevFigures(
            {
                f"{direction}_recall_at_{depth}": asdict(interval)
                for direction, recalls in found.recalls.items()
                for depth, interval in recalls.items()
            }
        )
