"""Scores a model in PyTorch on the dev pictures, for tuning; `evaluation` scores the packed file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from tokenizers import Tokenizer

from mobile_multimodal.evaluation.caption_metrics import CaptionScores, score_captions
from mobile_multimodal.quantization.fast_types import fast_products
from mobile_multimodal.training.caption_model import CaptionModel
from mobile_multimodal.training.caption_text import decode
from mobile_multimodal.training.decoding import BeamSettings, beam_search
from mobile_multimodal.training.features import FeatureCache


class DevEvaluation:
    """Callable model -> scores. `exact` runs the integer arithmetic of the core instead of bf16 products.

    `pictures` limits it to the first ones of dev (0: all).
    """

    def __init__(
        self,
        cache: FeatureCache,
        references: Mapping[str, Sequence[str]],
        tokenizer: Tokenizer,
        beam: BeamSettings | None = None,
        exact: bool = False,
        pictures: int = 0,
        pictures_at_once: int = 100,
    ) -> None:
        self._cache, self._tokenizer = cache, tokenizer
        self._references = [references[name] for name in cache.names[: pictures or None]]
        self.beam = beam or BeamSettings()
        self._exact, self._chunk = exact, pictures_at_once

    def captions(self, model: CaptionModel, beam: BeamSettings | None = None) -> list[str]:
        """Captions of the dev pictures in the order of the cache."""
        captions: list[str] = []
        for start in range(0, len(self._references), self._chunk):
            rows = range(start, min(start + self._chunk, len(self._references)))
            features = torch.from_numpy(self._cache.read(rows, [0] * len(rows)))
            with nullcontext() if self._exact else fast_products():
                token_lists = beam_search(model, features, beam or self.beam)
            captions.extend(decode(self._tokenizer, tokens) for tokens in token_lists)
        return captions

    def __call__(self, model: CaptionModel, beam: BeamSettings | None = None) -> CaptionScores:
        return score_captions(self.captions(model, beam), self._references)
