"""How much a run of the race measures, fixed when it starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RaceSettings:
    """model: the captioning file. seconds: scales the time of every heat; 1 is the full race of about 13 minutes."""

    model: Path
    threads: tuple[int, ...]
    is_quick: bool = False
    effort: float = 1.0

    def __post_init__(self) -> None:
        usable = len(os.sched_getaffinity(0))
        for count in self.threads:
            if not 1 <= count <= usable:
                raise SystemExit(f"race: {count} threads, but this process may use {usable} CPUs")
        if not 0 < self.effort <= 100:
            raise SystemExit(f"race: effort {self.effort}, expected a number above 0 and at most 100")

    def heat(self, seconds: float, quick_seconds: float) -> tuple[float, tuple[int, int]]:
        """Seconds of a heat, and its least and most rounds."""
        if self.is_quick:
            return quick_seconds * self.effort, (2, 20)
        return seconds * self.effort, (3, 60)
