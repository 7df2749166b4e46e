"""Feeds training: pictures with their captions as tokens, and cached features in random views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from mobile_multimodal.training.caption_model import TokenBatch
from mobile_multimodal.training.caption_text import BOS, EOS, PAD, mirrored, normal_form
from mobile_multimodal.training.features import FeatureCache, is_mirrored
from mobile_multimodal.training.trainer import BatchSource

CAPTIONS_PER_PICTURE = 5
# The longest 0.2 % of the Flickr8k captions are cut here; padding for them would double the attention.
MAX_CAPTION_TOKENS = 32


@dataclass(frozen=True)
class CaptionBatch:
    """Features [B, 49, 1280], captions with bos in front, and for each real token the one that follows it."""

    features: Tensor
    batch: TokenBatch
    targets: Tensor
    pictures: Tensor


def make_batch(features: Tensor, captions: Sequence[Sequence[int]], pictures: Tensor) -> CaptionBatch:
    """Groups token lists (without specials; the same number for every picture) of the pictures in features."""
    lengths = torch.tensor([len(caption) + 1 for caption in captions])
    tokens = torch.full((len(captions), int(lengths.max())), PAD)
    following = tokens.clone()
    for row, caption in enumerate(captions):
        line = torch.tensor([BOS, *caption, EOS])
        tokens[row, : len(line) - 1] = line[:-1]
        following[row, : len(line) - 1] = line[1:]
    batch = TokenBatch.from_lengths(tokens, lengths, len(captions) // features.shape[0])
    return CaptionBatch(features, batch, following.flatten()[batch.index], pictures)


# Passes over pictures.
PictureBatches: TypeAlias = BatchSource[CaptionBatch]


class UnlabelledSet:
    """Pictures without captions, for a student that imitates its teacher on them: every caption is empty."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache

    def __len__(self) -> int:
        return len(self._cache.names)

    def batches(self, size: int, random: np.random.Generator) -> Iterator[CaptionBatch]:
        """One pass in random order, a random view of each picture."""
        order = random.permutation(len(self))
        views = random.choice(self._cache.views, size=len(self))
        for start in range(0, len(order), size):
            pictures = order[start : start + size]
            features = torch.from_numpy(self._cache.read(pictures, views[pictures]))
            yield make_batch(features, [[] for _ in pictures], torch.from_numpy(pictures))


class TakingTurns:
    """Batches of two sets, one from each, until one of them is used up."""

    def __init__(self, first: PictureBatches, second: PictureBatches) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return 2 * min(len(self._first), len(self._second))

    def batches(self, size: int, random: np.random.Generator) -> Iterator[CaptionBatch]:
        for pair in zip(self._first.batches(size, random), self._second.batches(size, random), strict=False):
            yield from pair


class CaptionSet:
    """Pictures of one split in the order of their feature cache, with captions as text and as tokens."""

    def __init__(self, cache: FeatureCache, captions: dict[str, list[str]], tokenizer: Tokenizer) -> None:
        self.cache = cache
        self.texts = [[normal_form(text) for text in captions[name]] for name in cache.names]
        self._tokens = [
            [self._encode(tokenizer, texts) for texts in self.texts],
            [self._encode(tokenizer, [mirrored(text) for text in texts]) for texts in self.texts],
        ]

    @staticmethod
    def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
        return [encoding.ids[: MAX_CAPTION_TOKENS - 1] for encoding in tokenizer.encode_batch(texts)]

    def __len__(self) -> int:
        return len(self.texts)

    def batches(self, size: int, random: np.random.Generator) -> Iterator[CaptionBatch]:
        """One epoch in random order: a random view of each picture with all its captions."""
        order = random.permutation(len(self))
        views = random.choice(self.cache.views, size=len(self))
        for start in range(0, len(order), size):
            pictures = order[start : start + size]
            captions = []
            for picture in pictures:
                known = self._tokens[is_mirrored(int(views[picture]))][picture]
                # A few pictures outside the splits have fewer than five captions: repeat some.
                chosen = known if len(known) >= CAPTIONS_PER_PICTURE else (known * CAPTIONS_PER_PICTURE)
                captions.extend(chosen[:CAPTIONS_PER_PICTURE])
            features = self.cache.read(pictures, views[pictures])
            yield make_batch(torch.from_numpy(features), captions, torch.from_numpy(pictures))
