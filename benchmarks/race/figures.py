"""Turns times into medians, spreads and ratios; a ratio above 1 means that ours is ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Times:
    """Seconds of one workload of one contestant: the median of each turn, and every single run."""

    turns: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, wall: Sequence[float], cpu: Sequence[float]) -> None:
        """Takes over the runs of one turn."""
        self.turns.append(float(np.median(wall)))
        self.wall += wall
        self.cpu += cpu


def summary(times: Times) -> dict[str, float]:
    """Milliseconds: median, quartiles, fastest, the median of the CPU's time, and how many runs."""
    first, median, third = (float(value) * 1e3 for value in np.percentile(times.wall, [25, 50, 75]))
    return {
        "median_ms": round(median, 4),
        "first_quartile_ms": round(first, 4),
        "third_quartile_ms": round(third, 4),
        "fastest_ms": round(min(times.wall) * 1e3, 4),
        "median_cpu_ms": round(float(np.median(times.cpu)) * 1e3, 4),
        "runs": len(times.wall),
    }


def ratio(ours: Times, theirs: Times) -> dict[str, Any]:
    """How many times as fast ours is. Round by round, so that what disturbs the machine for a while hits both."""
    by_round = np.array(theirs.turns) / np.array(ours.turns)
    first, median, third = np.percentile(by_round, [25, 50, 75])
    return {
        "times_as_fast": round(float(median), 3),
        "quartiles": [round(float(first), 3), round(float(third), 3)],
        "of_fastest": round(min(theirs.wall) / min(ours.wall), 3),
        "of_cpu_time": round(float(np.median(theirs.cpu) / np.median(ours.cpu)), 3),
    }
