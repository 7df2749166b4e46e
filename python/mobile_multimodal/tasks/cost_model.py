"""Predicts how long a task takes: a linear cost of its work, times how slow the machine is now."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from mobile_multimodal.tasks.operating_points import ONLY_POINT
from mobile_multimodal.tasks.performance import quantile

# The upper quantile of actual / predicted that a prediction must cover: with it, about one call in ten is late.
COVERED: Final = 0.9
# How far one call moves the estimates (of logarithms): up fast, because a busy machine shows in the next call; down
# slowly. Of values that stay the same kind the estimate settles where RISE * (mean excess above) = FALL * (mean excess
# below): at their expectile of RISE / (RISE + FALL) = 0.86 (Newey and Powell, Econometrica 55, 1987). The first calls
# count more, 1/2, 1/3, ...: where it starts was measured at another time.
RISE: Final = 0.3
FALL: Final = 0.05
# One call can move the load by this much at most: a process that was stopped for a minute says nothing of the next.
MOST_RATIO: Final = 8.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a call has to do.

    is_encoded  the encoding of the picture is at hand
    megapixels  of the picture as text is looked for in it
    items       steps of a caption, lines of a page, texts to embed, options to choose among; 1 otherwise
    extent      what items grow with: the megapixels of a page, whatever it is looked at with; 1 otherwise
    """

    is_encoded: bool = False
    megapixels: float = 0.0
    items: float = 1.0
    extent: float = 1.0


@dataclass(frozen=True, kw_only=True)
class TaskCost:
    """Seconds of a task on a machine at rest: fixed + encode (unless at hand) + megapixel * megapixels + item * items.

    item    seconds of one item, by the name of the operating point; that of "only" holds for every point
    items   as many are expected for an extent of 1 where they cannot be known before, at first
    spread  upper quantile (COVERED) of actual / predicted while calibrating: the load to begin with
    """

    fixed: float
    encode: float = 0.0
    megapixel: float = 0.0
    item: Mapping[str, float]
    items: float = 1.0
    spread: float = 1.0

    def seconds(self, point: str, work: Work) -> float | None:
        """What to expect at rest; None for a point that was not calibrated."""
        item = self.item.get(point, self.item.get(ONLY_POINT.name))
        if item is None:
            return None
        encode = 0.0 if work.is_encoded else self.encode
        return self.fixed + encode + self.megapixel * work.megapixels + item * work.items

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON."""
        return asdict(self) | {"item": dict(self.item)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskCost:
        """What to_dict gave; ValueError, TypeError or KeyError for anything else."""
        numbers = {name: float(values[name]) for name in ("fixed", "encode", "megapixel", "items", "spread")}
        item = {str(name): float(seconds) for name, seconds in values["item"].items()}
        if not item or not all(math.isfinite(value) and value >= 0 for value in (*numbers.values(), *item.values())):
            raise ValueError("a cost is no finite number of at least 0, or there is no point")
        return cls(item=item, **numbers)


class UpperEstimate:
    """An estimate that lies above most of the recent values of something positive: high soon, low again slowly."""

    def __init__(self, start: float) -> None:
        self._log = math.log(start)
        self._observed = 0

    @property
    def value(self) -> float:
        """What most of the next values stay below."""
        return math.exp(self._log)

    def observe(self, value: float) -> None:
        """Takes the newest value into account; one of 0 or below is none."""
        if value <= 0:
            return
        distance = math.log(value) - self._log
        distance = max(-math.log(MOST_RATIO), min(math.log(MOST_RATIO), distance))
        self._observed += 1
        self._log += max(RISE if distance > 0 else FALL, 1 / (self._observed + 1)) * distance


class TaskPrediction:
    """The cost of a task, corrected by its recent calls: by how busy the machine is, and by how much work came."""

    def __init__(self, cost: TaskCost) -> None:
        self.cost = cost
        self.load = UpperEstimate(max(cost.spread, 1.0))
        self.items = UpperEstimate(max(cost.items, 1.0))  # for an extent of 1

    def seconds(self, point: str, work: Work) -> float | None:
        """The time that most calls stay within; None for a point that was not calibrated."""
        least = self.cost.seconds(point, work)
        return None if least is None else least * self.load.value

    def observe(self, point: str, work: Work, seconds: float) -> None:
        """Learns from a call that is done: `work` with the items that it turned out to have."""
        self.items.observe(work.items / work.extent)
        least = self.cost.seconds(point, work)
        if least:
            self.load.observe(seconds / least)


def fit_line(works: Sequence[Work], seconds: Sequence[float]) -> tuple[float, float, float]:
    """fixed, megapixel and item seconds, none below 0, by least squares over runs of one point."""
    rows = np.array([[1.0, work.megapixels, work.items] for work in works])
    values = np.array(seconds, dtype=np.float64)
    kept = [0, 1, 2]
    while True:
        solved = np.linalg.lstsq(rows[:, kept], values, rcond=None)[0]
        if (solved >= 0).all() or len(kept) == 1:
            break
        kept.pop(int(np.argmin(solved)))  # a cost below 0 is noise: without it the others explain the times
    found = dict(zip(kept, np.maximum(solved, 0.0).tolist(), strict=True))
    return found.get(0, 0.0), found.get(1, 0.0), found.get(2, 0.0)


def spread_of(ratios: Sequence[float]) -> float:
    """The upper quantile of actual / predicted; at least 1."""
    return max(1.0, quantile(sorted(ratios), COVERED))
