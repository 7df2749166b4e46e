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

_AT_ONCE = 250
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
        with torch.autocast("cpu", torch.bfloat16):
            seen = [model.embed_pictures(self._pictures.read(part).mean(dim=1)) for part in _parts(names)]
            read = [model.embed_texts(_means(self._states, part)) for part in _parts(texts)]
        similarity: Tensor = torch.cat(read) @ torch.cat(seen).T
        found = score_similarity(names, texts, owners, similarity.numpy())
        return DevFigures(
            {
                f"{direction}_recall_at_{depth}": asdict(interval)
                for direction, recalls in found.recalls.items()
                for depth, interval in recalls.items()
            }
        )


def _means(states: TextStates, texts: list[str]) -> Tensor:
    x, rows = states.read(texts)
    return rows.mean(x)


def _parts(entries: list[str]) -> list[list[str]]:
    return [entries[start : start + _AT_ONCE] for start in range(0, len(entries), _AT_ONCE)]
