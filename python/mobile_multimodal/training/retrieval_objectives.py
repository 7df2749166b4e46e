"""What a step of the retrieval model minimises: each text finds its picture, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mobile_multimodal.training.language_model import RetrievalModel
from mobile_multimodal.training.language_sets import names_a_side
from mobile_multimodal.training.language_text import TextStates
from mobile_multimodal.training.picture_features import PictureFeatures
from mobile_multimodal.training.question_objectives import divergence

# What turns cosines into logits. A learned one starts at 20 and ends between 20 and 23 here: it may as well stay.
SHARPNESS = 20.0
# The weight of the plain loss, against 1 for the similarities that a teacher gives.
_PLAIN_SHARE = 0.1


@dataclass(frozen=True)
class PairBatch:
    """Mean features of different pictures [pairs, 1280] and a text about each; no two texts are equal."""

    pictures: Tensor
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
            yield PairBatch(self._pictures.read_means(keys, views), list(chosen))


def _endless(keys: list[str], random: np.random.Generator) -> Iterator[str]:
    while True:
        for place in random.permutation(len(keys)):
            yield keys[place]


class Embedder(Protocol):
    """What gives unit vectors: a model, or several as one."""

    def embed_texts(self, means: Tensor) -> Tensor:
        """Means of texts' states [texts, width] -> unit vectors [texts, any width]."""

    def embed_pictures(self, means: Tensor) -> Tensor:
        """Means of features [pictures, 1280] -> unit vectors [pictures, the same width]."""


class Ensemble:
    """Several models as one: its similarities are the means of theirs."""

    def __init__(self, models: Sequence[RetrievalModel]) -> None:
        self._models = [model.eval() for model in models]

    def embed_texts(self, means: Tensor) -> Tensor:
        return F.normalize(torch.cat([model.embed_texts(means) for model in self._models], dim=1), dim=-1)

    def embed_pictures(self, means: Tensor) -> Tensor:
        return F.normalize(torch.cat([model.embed_pictures(means) for model in self._models], dim=1), dim=-1)


def contrastive_loss(texts: Tensor, pictures: Tensor) -> Tensor:
    """Symmetric cross-entropy over the similarities of unit vectors (CLIP, arXiv 2103.00020, figure 3)."""
    similarity = texts @ pictures.T * SHARPNESS
    right = torch.arange(len(texts))
    return 0.5 * (F.cross_entropy(similarity, right) + F.cross_entropy(similarity.T, right))


class ContrastiveObjective:
    """Texts and pictures find each other among the others of the batch.

    input_dropout: the share of both sides' inputs that is zeroed; 6,000 pictures are few.
    """

    def __init__(self, states: TextStates, input_dropout: float = 0.0) -> None:
        self._states, self._input_dropout = states, input_dropout

    def loss(self, model: RetrievalModel, batch: PairBatch) -> tuple[Tensor, float]:
        loss = contrastive_loss(*self.embed(model, batch))
        return loss, loss.item()

    def embed(self, model: RetrievalModel, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Unit vectors of the texts and of the pictures, [pairs, width] each."""
        texts = F.dropout(self._states.means(batch.texts), self._input_dropout)
        return model.embed_texts(texts), model.embed_pictures(F.dropout(batch.pictures, self._input_dropout))


class RetrievalImitation:
    """A teacher's similarities within the batch, with a share of the plain loss; the teacher sees all inputs."""

    def __init__(self, plain: ContrastiveObjective, teacher: Embedder, teacher_states: TextStates) -> None:
        self._plain, self._teacher, self._teacher_states = plain, teacher, teacher_states

    def loss(self, model: RetrievalModel, batch: PairBatch) -> tuple[Tensor, float]:
        with torch.no_grad():
            texts = self._teacher.embed_texts(self._teacher_states.means(batch.texts))
            taught = texts @ self._teacher.embed_pictures(batch.pictures).T * SHARPNESS
        texts, pictures = self._plain.embed(model, batch)
        similarity = texts @ pictures.T * SHARPNESS
        loss = divergence(similarity, taught) + divergence(similarity.T, taught.T)
        loss = loss + _PLAIN_SHARE * contrastive_loss(texts, pictures)
        return loss, loss.item()
