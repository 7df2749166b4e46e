"""Gives a metric its 95 % interval: the percentile bootstrap over pictures (Efron 1979)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import InvalidInputError

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def percent(self) -> str:
        """For shares: 1.23 % [1.10, 1.35]."""
        return f"{100 * self.value:.2f} % [{100 * self.low:.2f}, {100 * self.high:.2f}]"


def resampled_rows(pictures: int, seed: int) -> NDArray[np.int64]:
    """Pictures drawn with replacement, [RESAMPLES, pictures]."""
    return np.random.default_rng(seed).integers(0, pictures, size=(RESAMPLES, pictures))


def mean_interval(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Mean over pictures."""
    means = values[resampled_rows(len(values), seed)].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def ratio_interval(values: NDArray[np.float64], baseline: NDArray[np.float64], seed: int = 0) -> Interval:
    """mean(values) / mean(baseline) over the same pictures, resampled in pairs; the baseline must not be 0."""
    _check_pairs(values, baseline)
    if not baseline.mean() > 0:
        raise InvalidInputError("the baseline scores 0 on every picture", hint="compare with a model that scores")
    return share_interval(values, baseline, seed)


def share_interval(part: NDArray[np.float64], whole: NDArray[np.float64], seed: int = 0) -> Interval:
    """sum(part) / sum(whole) over pictures: a rate whose pictures weigh what they hold. 0 where nothing is held."""
    _check_pairs(part, whole)
    if not whole.sum() > 0:
        return Interval(0.0, 0.0, 0.0)
    rows = resampled_rows(len(part), seed)
    sums = whole[rows].sum(axis=1)
    # Few pictures: a resample may hold none with a whole.
    low, high = np.quantile(part[rows].sum(axis=1)[sums > 0] / sums[sums > 0], [0.025, 0.975])
    return Interval(float(part.sum() / whole.sum()), float(low), float(high))


def share_difference_interval(
    first: tuple[NDArray[np.float64], NDArray[np.float64]],
    second: tuple[NDArray[np.float64], NDArray[np.float64]],
    seed: int = 0,
) -> Interval:
    """The first share (part, whole) minus the second on the same pictures, resampled in pairs."""
    for values in (*first, *second):
        _check_pairs(values, first[0])
    if not (first[1].sum() > 0 and second[1].sum() > 0):
        raise InvalidInputError("one of the two has nothing to score", hint="compare on pictures that hold text")
    rows = resampled_rows(len(first[0]), seed)
    sums = [values[rows].sum(axis=1) for values in (*first, *second)]
    kept = (sums[1] > 0) & (sums[3] > 0)
    differences = sums[0][kept] / sums[1][kept] - sums[2][kept] / sums[3][kept]
    low, high = np.quantile(differences, [0.025, 0.975])
    value = first[0].sum() / first[1].sum() - second[0].sum() / second[1].sum()
    return Interval(float(value), float(low), float(high))


def _check_pairs(values: NDArray[np.float64], baseline: NDArray[np.float64]) -> None:
    if values.shape != baseline.shape:
        raise InvalidInputError(
            f"{len(values)} scores against {len(baseline)}", hint="compare two systems on the same pictures"
        )
