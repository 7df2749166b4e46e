"""Is told what happens in the pool, as metrics and logs need it; does nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mobile_multimodal.serving.workers.job import Task

RestartReason = Literal["died", "stuck", "memory"]


class PoolObserver:
    """Does nothing: subclass it and write the methods of interest. All run on the event loop and must be quick."""

    def job_started(self, task: Task, queue_seconds: float, batch_size: int) -> None:
        """A worker got a job; a job whose worker died is told of once more."""

    def job_finished(self, task: Task, inference_seconds: float, value: Mapping[str, Any]) -> None:
        """A job's result went to its caller."""

    def job_failed(self, task: Task, error: BaseException) -> None:
        """A job that had been let in failed; those that were not (queue full, draining) are not told of."""

    def worker_restarted(self, reason: RestartReason) -> None:
        """A worker is gone and its replacement is on its way."""

    def feature_cache(self, hits: int, misses: int) -> None:
        """So many pictures more were found, or not found, in a worker's cache of features."""

    def queue_changed(self, length: int) -> None:
        """So many jobs wait now."""
