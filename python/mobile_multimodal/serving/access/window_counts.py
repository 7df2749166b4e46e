"""Counts requests in this process for the limiter, for a bounded number of callers."""

from __future__ import annotations

import time
from math import floor
from typing import Final, Protocol

from cachetools import LRUCache

# An entry takes about 400 bytes: 100,000 callers are 40 MB. The least recently seen are forgotten first.
MAX_CALLERS: Final = 100_000


class WindowCounts(Protocol):
    """What the limiter needs of a place that counts; `limits.aio.storage.RedisStorage` is one, too."""

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Counts `amount` under `key` and answers True if that stays within `limit` in `expiry` seconds."""

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Count of the window before, seconds it still counts; count of this window, seconds it still counts."""


class MemoryWindowCounts:
    """Sliding-window counters with the arithmetic of the package `limits`.

    Why not its own memory storage: that walks through all callers at every request (16 ms with 50,000 of them on one
    core of a server) and keeps as many as there come. Here a request costs the same whoever else came, and a flood of
    addresses stays within `max_callers`. There is no lock, because nothing awaits between reading and writing.
    """

    def __init__(self, max_callers: int = MAX_CALLERS) -> None:
        # key -> (index of its window, count in it, count in the window before)
        self._windows: LRUCache[str, tuple[int, int, int]] = LRUCache(maxsize=max_callers)

    def __len__(self) -> int:
        return len(self._windows)

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Counts `amount` under `key` and answers True if that stays within `limit` in `expiry` seconds."""
        now = time.time()
        index, count, count_before = self._window(key, expiry, now)
        share_before = 1 - (now / expiry) % 1  # how much of the window before still counts
        if floor(count_before * share_before + count) + amount > limit:
            return False
        self._windows[key] = (index, count + amount, count_before)
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Count of the window before, seconds it still counts; count of this window, seconds it still counts."""
        now = time.time()
        _, count, count_before = self._window(key, expiry, now)
        seconds_left = (1 - (now / expiry) % 1) * expiry
        return count_before, seconds_left if count_before else 0.0, count, seconds_left + expiry

    def _window(self, key: str, expiry: int, now: float) -> tuple[int, int, int]:
        index = int(now // expiry)
        known, count, count_before = self._windows.get(key, (index, 0, 0))
        if known == index:
            return index, count, count_before
        return index, 0, count if known == index - 1 else 0
