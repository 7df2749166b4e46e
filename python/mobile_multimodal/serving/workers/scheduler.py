"""Decides which jobs a free worker gets next, and which worker; knows no processes and no clock."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from mobile_multimodal.serving.workers.pending_job import PendingJob
from mobile_multimodal.settings import GenerationSettings

# A worker holds all files of a batch at once. A batch of photographs has 1 MB; eight of the largest files had 400.
_MOST_BATCH_BYTES: Final = 16 << 20


class FreeWorker(Protocol):
    """What the choice of a worker looks at."""

    @property
    def index(self) -> int:
        """Its place in the pool."""

    @property
    def idle_since(self) -> float:
        """When it became free."""

    def saw_picture_at(self, picture_key: str) -> float:
        """When it last worked on that picture; -inf for never, or too long ago to be known."""


@dataclass(frozen=True)
class Assignment:
    """These jobs go to that worker now."""

    worker: int
    jobs: tuple[PendingJob, ...]


@dataclass(frozen=True)
class WaitUntil:
    """Nothing goes now; at that time a batch goes, full or not."""

    time: float


class Scheduler:
    """Oldest job first, with three exceptions.

    Captions with equal settings go together: at most `max_batch`, and no more than their share when several workers
    are free; the first of them waits at most `batch_wait_seconds` for others.
    Reading text takes 10 to 100 times as long as anything else: it never holds the last worker (where there are two).
    Of several free workers the one that saw the picture last is taken: it has the picture and its features at hand.
    """

    def __init__(self, *, workers: int, max_batch: int, batch_wait_seconds: float) -> None:
        self._max_readers = max(1, workers - 1)
        self._max_batch = max_batch
        self._batch_wait_seconds = batch_wait_seconds

    def choose(
        self, waiting: Iterable[PendingJob], free: Sequence[FreeWorker], readers: int, now: float
    ) -> Assignment | WaitUntil | None:
        """What to do next; None is nothing. `readers` workers are reading text at this moment."""
        if not free:
            return None
        jobs = list(waiting)
        forming: set[GenerationSettings] = set()
        next_look: float | None = None
        for job in jobs:
            if job.job.task == "ocr" and readers >= self._max_readers:
                continue
            if job.batch_key is None:
                return Assignment(_best_worker(free, job.picture_key), (job,))
            if job.batch_key in forming:
                continue
            forming.add(job.batch_key)
            together = [other for other in jobs if other.batch_key == job.batch_key]
            goes_at = job.queued_at + self._batch_wait_seconds
            if len(together) < self._max_batch and now < goes_at:
                next_look = goes_at if next_look is None else min(next_look, goes_at)
                continue
            share = -(-len(together) // len(free))
            batch = _within_bytes(together[: min(share, self._max_batch)])
            return Assignment(_best_worker(free, job.picture_key), batch)
        return None if next_look is None else WaitUntil(next_look)


def _within_bytes(jobs: Sequence[PendingJob]) -> tuple[PendingJob, ...]:
    """The first jobs whose pictures fit into a frame together, and the very first in any case."""
    totals = itertools.accumulate(job.picture_bytes for job in jobs)
    return tuple(job for job, total in zip(jobs, totals, strict=True) if job is jobs[0] or total <= _MOST_BATCH_BYTES)


def _best_worker(free: Sequence[FreeWorker], picture_key: str) -> int:
    """The one that saw the picture last; of equal ones, the one that has been idle longest."""
    return max(free, key=lambda worker: (worker.saw_picture_at(picture_key), -worker.idle_since)).index
