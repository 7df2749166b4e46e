"""Holds what a deployment chooses for the pool of workers: frozen, checked when made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.settings import MAX_THREADS, check_integer, check_number

MAX_WORKERS: Final = 256
MAX_QUEUE_LENGTH: Final = 100_000
MAX_BATCH: Final = 16  # pictures whose memories a session of the core holds at once
MAX_CACHE_BYTES: Final = 1 << 40


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How many workers there are, what may wait for them, and when one is given up.

    model                    a name or the path of a .gguf file
    workers                  processes; None is every CPU that this process may use
    threads_per_worker       threads of one worker's model; more workers beat more threads for throughput
    queue_length             so many jobs may wait; QueueFullError beyond
    queue_bytes              so many bytes their pictures may have together; a single one may have more
    max_batch                at most so many captions in one turn of a worker; each beyond the first adds 1.2 MB to it
    batch_wait_milliseconds  so long the first caption of a batch waits for others
    max_wait_seconds         a job that would wait longer for a worker, by what jobs took lately, is refused at once.
                             None is no bound but those on the queue
    stuck_grace_seconds      a worker still busy so long after its jobs' deadlines is killed
    silent_seconds           a worker that answers nothing for so long does not count as ready; it is killed when it is
                             idle (when it is busy, its jobs' deadlines decide)
    start_seconds            a worker that is not ready after so long is killed; a slow disk may need more
    retries                  so often a job is given to another worker when its own died
    feature_cache_bytes      in each worker, for features of pictures that were encoded: 0.25 MB each, so 10
    picture_cache_bytes      in each worker, for pictures that were decoded and brought to the model's size: 0.15 MB
                             each, so 10; the default file's worker holds less than 30 MB of its own with all this
    worker_memory_bytes      a worker with more resident bytes is replaced between two jobs; None is no bound.
                             Pages that workers share count in each
    """

    model: str = DEFAULT_MODEL
    workers: int | None = None
    threads_per_worker: int = 1
    queue_length: int = 64
    queue_bytes: int = 256 << 20
    max_batch: int = 4
    batch_wait_milliseconds: float = 2.0
    max_wait_seconds: float | None = None
    stuck_grace_seconds: float = 2.0
    silent_seconds: float = 5.0
    start_seconds: float = 60.0
    retries: int = 1
    feature_cache_bytes: int = 2_600_000
    picture_cache_bytes: int = 1_600_000
    worker_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise InvalidInputError(
                f"setting model is {self.model!r}, expected a name or a path", f"for example {DEFAULT_MODEL!r}"
            )
        if self.workers is not None:
            check_integer("workers", self.workers, 1, MAX_WORKERS)
        check_integer("threads_per_worker", self.threads_per_worker, 1, MAX_THREADS)
        check_integer("queue_length", self.queue_length, 1, MAX_QUEUE_LENGTH)
        check_integer("queue_bytes", self.queue_bytes, 1, MAX_CACHE_BYTES)
        check_integer("max_batch", self.max_batch, 1, MAX_BATCH)
        check_number("batch_wait_milliseconds", self.batch_wait_milliseconds, 0.0, 1000.0)
        if self.max_wait_seconds is not None:
            check_number("max_wait_seconds", self.max_wait_seconds, 0.001, 3600.0)
        check_number("stuck_grace_seconds", self.stuck_grace_seconds, 0.0, 600.0)
        check_number("silent_seconds", self.silent_seconds, 0.1, 3600.0)
        check_number("start_seconds", self.start_seconds, 0.1, 3600.0)
        check_integer("retries", self.retries, 0, 10)
        check_integer("feature_cache_bytes", self.feature_cache_bytes, 0, MAX_CACHE_BYTES)
        check_integer("picture_cache_bytes", self.picture_cache_bytes, 0, MAX_CACHE_BYTES)
        if self.worker_memory_bytes is not None:
            check_integer("worker_memory_bytes", self.worker_memory_bytes, 1, MAX_CACHE_BYTES)

    @property
    def worker_count(self) -> int:
        """How many processes there will be."""
        return self.workers if self.workers is not None else min(len(os.sched_getaffinity(0)), MAX_WORKERS)
