"""Gives scores their 95 % bootstrap intervals: of a mean, of a difference and of a ratio in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import InvalidInputError

RESAMPLES = 2000
_QUANTILES = (0.025, 0.975)
# 2,000 resamples of 10,000 questions at once are 160 MB of row numbers; parts of this size stay below 16 MB.
_ROWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def as_percent(self) -> str:
        """ "61.2 % [59.8, 62.6]"."""
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def resampled_rows(rows: int, seed: int) -> NDArray[np.int64]:
    """Row numbers drawn with replacement [RESAMPLES, rows]."""
    return np.random.default_rng(seed).integers(0, rows, size=(RESAMPLES, rows))


def mean_interval(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Mean with the percentile bootstrap."""
    low, high = np.quantile(_resampled_means(values[None], seed)[0], _QUANTILES)
    return Interval(float(values.mean()), float(low), float(high))


def difference_interval(values: NDArray[np.float64], baseline: NDArray[np.float64], seed: int = 0) -> Interval:
    """mean(values) - mean(baseline) on the same rows, resampled in pairs."""
    _check_pairs(values, baseline)
    return mean_interval(values - baseline, seed)


def ratio_interval(values: NDArray[np.float64], baseline: NDArray[np.float64], seed: int = 0) -> Interval:
    """mean(values) / mean(baseline) on the same rows, resampled in pairs; the baseline must not be 0."""
    _check_pairs(values, baseline)
    if not baseline.mean() > 0:
        raise InvalidInputError("the baseline scores 0 on every picture", hint="compare with a model that scores")
    means, baseline_means = _resampled_means(np.stack([values, baseline]), seed)
    # Few pictures: a resample may hold none on which the baseline scores.
    counted = baseline_means > 0
    low, high = np.quantile(means[counted] / baseline_means[counted], _QUANTILES)
    return Interval(float(values.mean() / baseline.mean()), float(low), float(high))


def _check_pairs(values: NDArray[np.float64], baseline: NDArray[np.float64]) -> None:
    if values.shape != baseline.shape:
        raise InvalidInputError(
            f"{len(values)} scores against {len(baseline)}", hint="compare two systems on the same pictures"
        )


def _resampled_means(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means [systems, RESAMPLES] of values [systems, rows]; every system sees the same rows."""
    rows = values.shape[1]
    if rows == 0:
        raise InvalidInputError("there is nothing to take a mean of", hint="pass a data set that is not empty")
    random = np.random.default_rng(seed)
    means = np.empty((len(values), RESAMPLES))
    step = max(1, _ROWS_AT_ONCE // rows)
    for start in range(0, RESAMPLES, step):
        count = min(step, RESAMPLES - start)
        drawn = random.integers(0, rows, size=(count, rows))
        means[:, start : start + count] = values[:, drawn].mean(axis=2)
    return means
