"""Estimates from the last batches how long a queue will take."""

from __future__ import annotations

from typing import Final

_SHARE_OF_NEWEST: Final = 0.1  # the estimate follows a change of load within about ten batches
_FIRST_GUESS_SECONDS: Final = 0.05
_LEAST_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 60.0


class Throughput:
    """A running mean of a worker's seconds a job."""

    def __init__(self) -> None:
        self._seconds_a_job = _FIRST_GUESS_SECONDS

    def add(self, batch_seconds: float, jobs: int) -> None:
        """A worker needed so long for so many."""
        self._seconds_a_job += _SHARE_OF_NEWEST * (batch_seconds / jobs - self._seconds_a_job)

    def seconds_for(self, jobs: int, workers: int) -> float:
        """How long so many jobs will take so many workers; between 0.1 and 60 s, for a Retry-After."""
        return min(max(jobs * self._seconds_a_job / max(workers, 1), _LEAST_SECONDS), _MOST_SECONDS)
