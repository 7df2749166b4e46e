"""Compares confidence with accuracy: the expected calibration error and the points of a reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Guo et al., On Calibration of Modern Neural Networks, ICML 2017, use 15 bins of equal width.
BINS = 15


@dataclass(frozen=True)
class Bin:
    """Answers whose confidence lies in one of BINS equal parts of 0..1."""

    count: int
    confidence: float
    accuracy: float


def reliability_bins(confidences: NDArray[np.float64], correct: NDArray[np.float64]) -> list[Bin]:
    """Mean confidence and accuracy of each bin that has answers; 1.0 belongs to the last one."""
    places = np.clip(np.ceil(confidences * BINS).astype(np.int64) - 1, 0, BINS - 1)
    bins = []
    for place in range(BINS):
        inside = places == place
        if inside.any():
            count = int(inside.sum())
            bins.append(Bin(count, float(confidences[inside].mean()), float(correct[inside].mean())))
    return bins


def expected_calibration_error(confidences: NDArray[np.float64], correct: NDArray[np.float64]) -> float:
    """sum over bins of share * |accuracy - confidence|."""
    bins = reliability_bins(confidences, correct)
    return sum(part.count * abs(part.accuracy - part.confidence) for part in bins) / max(1, len(correct))


def ranking_accuracy(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    """How often a value of `higher` is above one of `lower`, ties counting half (area under the ROC curve)."""
    values = np.concatenate([higher, lower])
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    _, groups = np.unique(values, return_inverse=True)
    ranks = (np.bincount(groups, ranks) / np.bincount(groups))[groups]
    wins = ranks[: len(higher)].sum() - len(higher) * (len(higher) + 1) / 2
    return float(wins / (len(higher) * len(lower)))
