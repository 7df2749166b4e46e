"""Rewards sampled captions with CIDEr-D against the references of their picture."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.cider.cider_scorer import CiderScorer, cook_refs, cook_test

from mobile_multimodal.evaluation.caption_metrics import metric_words


class _FixedFrequencyScorer(CiderScorer):  # type: ignore[misc]
    """CiderScorer with the number of documents of a larger corpus: the original resets it to that of the batch."""

    fixed_ref_len = 0.0

    @property
    def ref_len(self) -> float:
        return self.fixed_ref_len

    @ref_len.setter
    def ref_len(self, value: float | None) -> None:
        """Ignores what compute_cider derives from the batch."""


class CiderReward:
    """CIDEr-D of captions of known pictures; document frequencies are those of all references given here."""

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        self._references = [cook_refs([metric_words(text) for text in texts]) for texts in references]
        self._scorer = _FixedFrequencyScorer()
        self._scorer.crefs = self._references
        self._scorer.compute_doc_freq()
        self._scorer.document_frequency = defaultdict(float, self._scorer.document_frequency)
        self._scorer.fixed_ref_len = math.log(len(self._references))

    def __call__(self, pictures: Sequence[int], captions: Sequence[str]) -> NDArray[np.float32]:
        """Reward of captions[i] as a caption of picture pictures[i]."""
        self._scorer.crefs = [self._references[picture] for picture in pictures]
        self._scorer.ctest = [cook_test(metric_words(text)) for text in captions]
        return np.asarray(self._scorer.compute_cider(), dtype=np.float32)
