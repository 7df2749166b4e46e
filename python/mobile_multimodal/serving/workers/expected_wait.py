"""Estimates how long a new job would wait, from what waits and runs before it and how long such jobs took lately."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_SHARE_OF_NEWEST: Final = 0.1  # the estimate follows a change within about ten batches
_FIRST_GUESS_SECONDS: Final = 0.05


class ExpectedWait:
    """A running mean of the seconds a job by task: tasks differ by 100 times, so a count of jobs says little of time.

    Reading text may have all workers but one (see Scheduler): readers wait for readers alone, and the others have what
    readers leave them.
    """

    def __init__(self, *, workers: int) -> None:
        self._workers = workers
        self._max_readers = max(1, workers - 1)
        self._seconds_a_job: dict[str, float] = {}

    def add(self, task: str, batch_seconds: float, jobs: int) -> None:
        """A worker needed so long for so many jobs of a task."""
        newest = batch_seconds / jobs
        before = self._seconds_a_job.get(task, newest)
        self._seconds_a_job[task] = before + _SHARE_OF_NEWEST * (newest - before)

    def seconds_before(self, task: str, waiting: Iterable[str], running: Iterable[tuple[str, int, float]]) -> float:
        """When a new job of the task would begin.

        waiting  the tasks of the jobs in the queue
        running  for each busy worker: task, jobs of its batch, seconds since it began
        """
        waiting, running = list(waiting), list(running)
        reading = sum(name == "ocr" for name, _, _ in running)
        if not waiting and len(running) < self._workers and (task != "ocr" or reading < self._max_readers):
            return 0.0  # there is a worker for it now
        work = {True: 0.0, False: 0.0}  # of readers, and of all others
        for name in waiting:
            work[name == "ocr"] += self._seconds_of(name)
        for name, jobs, elapsed in running:
            work[name == "ocr"] += max(0.0, jobs * self._seconds_of(name) - elapsed)
        readers = reading + waiting.count("ocr")
        if self._workers == 1:
            return sum(work.values())
        if task == "ocr":
            return work[True] / self._max_readers
        return work[False] / (self._workers - min(readers, self._max_readers))

    def _seconds_of(self, task: str) -> float:
        return self._seconds_a_job.get(task, _FIRST_GUESS_SECONDS)
