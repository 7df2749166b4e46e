"""Scores captions against references: CIDEr-D, BLEU-4 and ROUGE-L with bootstrap intervals over pictures.

The scorers are pycocoevalcap's. Its PTB tokenizer needs Java, so `metric_words` stands in: lower case, clitics
split as PTB does (isn't -> is n't, man's -> man 's), punctuation dropped, inner hyphens kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pycocoevalcap.rouge.rouge import Rouge

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.evaluation.bootstrap import Interval, mean_interval, resampled_rows

_NOT = re.compile(r"(?<=\w)n't\b")
_CLITIC = re.compile(r"(?<=\w)\s*('(?:s|re|ve|ll|d|m))\b")
_WORD = re.compile(r"n't|'(?:s|re|ve|ll|d|m)\b|\w+(?:[-.,'&/]\w+)*")


def metric_words(caption: str) -> str:
    """Words of a caption as the metrics compare them, joined by single spaces."""
    text = _CLITIC.sub(r" \1", _NOT.sub(" n't", caption.lower()))
    return " ".join(_WORD.findall(text))


@dataclass(frozen=True)
class CaptionScores:
    """Metrics of one system on `pictures` pictures; `cider_d_per_picture` feeds paired comparisons."""

    pictures: int
    cider_d: Interval
    bleu_4: Interval
    rouge_l: Interval
    cider_d_per_picture: NDArray[np.float64]

    def as_dict(self) -> dict[str, object]:
        return {
            "pictures": self.pictures,
            **{name: asdict(getattr(self, name)) for name in ("cider_d", "bleu_4", "rouge_l")},
        }


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """CIDEr-D (0..10) per picture, document frequencies from these references. Texts are metric words."""
    scorer = CiderScorer()
    for caption, refs in zip(captions, references, strict=True):
        scorer += (caption, list(refs))
    return np.asarray(scorer.compute_score()[1], dtype=np.float64)


def bleu_4(captions: Sequence[str], references: Sequence[Sequence[str]], seed: int = 0) -> Interval:
    """Corpus BLEU-4 (closest reference length), resampling the corpus statistics."""
    scorer = BleuScorer(n=4)
    for caption, refs in zip(captions, references, strict=True):
        scorer += (caption, list(refs))
    value = float(scorer.compute_score(option="closest", verbose=0)[0][3])
    # Per picture: 4 matches, 4 possible matches, caption length, closest reference length.
    lengths = [
        (comps["testlen"], min(comps["reflen"], key=lambda ref: (abs(ref - comps["testlen"]), ref)))
        for comps in scorer.ctest
    ]
    counts = np.array(
        [[*comps["correct"], *comps["guess"], *size] for comps, size in zip(scorer.ctest, lengths, strict=True)]
    )
    sums = np.stack([counts[rows].sum(axis=0) for rows in resampled_rows(len(counts), seed)]).astype(np.float64)
    precision = np.exp(np.log(np.maximum(sums[:, :4], 1e-9) / np.maximum(sums[:, 4:8], 1)).mean(axis=1))
    penalty = np.exp(np.minimum(0.0, 1.0 - sums[:, 9] / np.maximum(sums[:, 8], 1)))
    low, high = np.quantile(precision * penalty, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def score_captions(captions: Sequence[str], references: Sequence[Sequence[str]], seed: int = 0) -> CaptionScores:
    """All metrics of captions [N] against references [N][k]; raw texts."""
    if len(captions) != len(references) or not captions:
        raise InvalidInputError(
            f"{len(captions)} captions for {len(references)} pictures", hint="give one caption for each picture"
        )
    words = [metric_words(text) for text in captions]
    refs = [[metric_words(text) for text in texts] for texts in references]
    per_picture = cider_d(words, refs)
    rouge = Rouge()
    rouge_l = np.array([rouge.calc_score([text], texts) for text, texts in zip(words, refs, strict=True)])
    return CaptionScores(
        pictures=len(captions),
        cider_d=mean_interval(per_picture, seed),
        bleu_4=bleu_4(words, refs, seed),
        rouge_l=mean_interval(rouge_l, seed),
        cider_d_per_picture=per_picture,
    )
