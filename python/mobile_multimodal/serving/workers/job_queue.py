"""Holds the jobs that wait for a worker, in their order, up to a bound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mobile_multimodal.serving.workers.pending_job import PendingJob


class JobQueue:
    """First come, first in the order; who comes back from a lost worker goes before all others."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._jobs: list[PendingJob] = []

    @property
    def is_full(self) -> bool:
        """Whether no new job may be added. Those that came back do not make a full queue fuller than it may be."""
        return len(self._jobs) >= self.limit

    def add(self, job: PendingJob) -> None:
        """Puts a new job last; the caller has looked at `is_full`."""
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
