"""Holds the jobs that wait for a worker, in their order, up to a bound on their number and one on their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mobile_multimodal.serving.workers.pending_job import PendingJob


class JobQueue:
    """First come, first in the order; who comes back from a lost worker goes before all others."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self._jobs: list[PendingJob] = []

    def takes(self, picture_bytes: int) -> bool:
        """Whether a new job with a picture of that size may be added; an empty queue takes any."""
        if not self._jobs:
            return True
        return len(self._jobs) < self.limit and self.bytes + picture_bytes <= self.limit_bytes

    @property
    def bytes(self) -> int:
        """Of the pictures that wait."""
        return sum(job.picture_bytes for job in self._jobs)

    def add(self, job: PendingJob) -> None:
        """Puts a new job last; the caller has asked `takes`."""
        self._jobs.append(job)

    def add_first(self, jobs: Iterable[PendingJob]) -> None:
        """Puts jobs that were let in before, in their order, before all others; whatever the bound is."""
        self._jobs[:0] = jobs

    def remove(self, jobs: Iterable[PendingJob]) -> None:
        """Takes jobs out: they go to a worker, or nobody wants them any more. One that is not there is no matter."""
        numbers = {job.number for job in jobs}
        self._jobs = [job for job in self._jobs if job.number not in numbers]

    def __iter__(self) -> Iterator[PendingJob]:
        return iter(tuple(self._jobs))

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: object) -> bool:
        return any(entry is job for entry in self._jobs)
