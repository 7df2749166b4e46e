"""What a step of the retrieval model minimises: each text finds its picture, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mobile_multimodal.training.language_model import RetrievalModel
from mobile_multimodal.training.language_sets import names_a_side
from mobile_multimodal.training.language_text import TextStates
from mobile_multimodal.training.picture_features import PictureFeatures
from mobile_multimodal.training.question_objectives import divergence, hide_cells

# What turns cosines into logits. A learned one starts at 20 and ends between 20 and 23 here: it may as well stay.
SHARPNESS = 20.0
# Weights of the vectors' own distance and of the plain loss, against 1 for the twin's similarities.
_DISTANCE_WEIGHT, _PLAIN_SHARE = 2.0, 0.1


@dataclass(frozen=True)
class PairBatch:
    """Features of different pictures [pairs, 49, 1280] and a text about each; no two texts are equal."""

    features: Tensor
    texts: list[str]


class PairBatches:
    """Endless batches of pictures with one of their texts: captions, and a share of sentences made from questions."""

    def __init__(
        self,
        pictures: PictureFeatures,
        captions: Mapping[str, Sequence[str]],
        sentences: Mapping[str, Sequence[str]],
        sentences_share: float,
    ) -> None:
        self._pictures, self._captions, self._sentences = pictures, captions, sentences
        self._share = sentences_share if sentences else 0.0

    def __len__(self) -> int:
        return len(self._captions)

    def batches(self, size: int, random: np.random.Generator) -> Iterator[PairBatch]:
        """Batches of at most `size` pairs without end; a text that the batch has already is left out."""
        made = round(size * self._share)
        decks = [(self._captions, _endless(list(self._captions), random), min(size - made, len(self._captions)))]
        decks.append((self._sentences, _endless(list(self._sentences), random), min(made, len(self._sentences))))
        while True:
            chosen: dict[str, str] = {}
            for texts, deck, count in decks:
                for _ in range(count):
                    key = next(deck)
                    text = texts[key][int(random.integers(len(texts[key])))]
                    if key not in chosen.values():
                        chosen.setdefault(text, key)
            keys = list(chosen.values())
            views = self._pictures.draw_views(keys, [names_a_side(text) for text in chosen], random, plain_share=0.0)
            yield PairBatch(self._pictures.read(keys, views), list(chosen))


def _endless(keys: list[str], random: np.random.Generator) -> Iterator[str]:
    while True:
        for place in random.permutation(len(keys)):
            yield keys[place]


def embed(model: RetrievalModel, states: TextStates, batch: PairBatch, features: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors of the texts and of the pictures, [pairs, width] each."""
    x, rows = states.read(batch.texts)
    with torch.autocast("cpu", torch.bfloat16):
        return model.embed_texts(rows.mean(x)), model.embed_pictures(features.mean(dim=1))


def contrastive_loss(texts: Tensor, pictures: Tensor, smoothing: float = 0.0) -> Tensor:
    """Symmetric cross-entropy over the similarities of unit vectors (CLIP, arXiv 2103.00020, figure 3)."""
    similarity = texts @ pictures.T * SHARPNESS
    right = torch.arange(len(texts))
    return 0.5 * (
        F.cross_entropy(similarity, right, label_smoothing=smoothing)
        + F.cross_entropy(similarity.T, right, label_smoothing=smoothing)
    )


class ContrastiveObjective:
    """Texts and pictures find each other among the others of the batch."""

    def __init__(self, states: TextStates, smoothing: float = 0.0, hidden_cells: float = 0.0) -> None:
        self._states, self._smoothing, self._hidden_cells = states, smoothing, hidden_cells

    def loss(self, model: RetrievalModel, batch: PairBatch) -> tuple[Tensor, float]:
        texts, pictures = embed(model, self._states, batch, hide_cells(batch.features, self._hidden_cells))
        loss = contrastive_loss(texts, pictures, self._smoothing)
        return loss, loss.item()


class RetrievalImitation:
    """The twin's vectors and its similarities within the batch, with a share of the plain loss."""

    def __init__(self, states: TextStates, teacher: RetrievalModel, teacher_states: TextStates) -> None:
        self._states, self._teacher, self._teacher_states = states, teacher.eval(), teacher_states

    def loss(self, model: RetrievalModel, batch: PairBatch) -> tuple[Tensor, float]:
        with torch.no_grad():
            taught_texts, taught_pictures = embed(self._teacher, self._teacher_states, batch, batch.features)
        texts, pictures = embed(model, self._states, batch, batch.features)
        similarity, taught = (t @ p.T * SHARPNESS for t, p in ((texts, pictures), (taught_texts, taught_pictures)))
        distance = (1 - (texts * taught_texts).sum(-1)).mean() + (1 - (pictures * taught_pictures).sum(-1)).mean()
        loss = divergence(similarity, taught) + divergence(similarity.T, taught.T)
        loss = loss + _DISTANCE_WEIGHT * distance + _PLAIN_SHARE * contrastive_loss(texts, pictures)
        return loss, loss.item()
