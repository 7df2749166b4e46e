"""Runs pools of real worker processes in tests, and looks at them from outside."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from mobile_multimodal.serving.workers.job import Job
from mobile_multimodal.serving.workers.pool_observer import PoolObserver
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.worker_pool import WorkerPool

Result = TypeVar("Result")

PATIENCE_SECONDS = 60.0  # for what must happen at all; nothing is decided by how fast it does
ROOT = Path(__file__).resolve().parent.parent.parent
CAT = (ROOT / "examples" / "pictures" / "cat.jpg").read_bytes()
BOATS = (ROOT / "examples" / "pictures" / "boats.jpg").read_bytes()
PAGE = (ROOT / "examples" / "pages" / "invoice.png").read_bytes()


class Recorder(PoolObserver):
    """Remembers what it was told; `on_start` runs whenever a worker gets a job."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.on_start: Callable[[], None] | None = None

    def job_started(self, task: Any, queue_seconds: float, batch_size: int) -> None:
        self.events.append(("started", task, batch_size))
        if self.on_start is not None:
            self.on_start()

    def job_finished(self, task: Any, inference_seconds: float, value: Any) -> None:
        self.events.append(("finished", task))

    def job_failed(self, task: Any, error: BaseException) -> None:
        self.events.append(("failed", task, type(error).__name__))

    def worker_restarted(self, reason: Any) -> None:
        self.events.append(("restarted", reason))

    def feature_cache(self, hits: int, misses: int) -> None:
        self.events.append(("feature_cache", hits, misses))

    def queue_changed(self, length: int) -> None:
        self.events.append(("queue", length))

    def count(self, *start: Any) -> int:
        """How many events begin so."""
        return sum(event[: len(start)] == start for event in self.events)


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Runs a test to its end, or fails it after two minutes."""

    async def bounded() -> Result:
        return await asyncio.wait_for(main, 2 * PATIENCE_SECONDS)

    return asyncio.run(bounded())


@asynccontextmanager
async def pool_of(observer: PoolObserver | None = None, **settings: Any) -> AsyncIterator[WorkerPool]:
    """A started pool, of one worker unless said otherwise; it is stopped in any case, and leaves no process."""
    defaults = {"workers": 1, "silent_seconds": 10 * PATIENCE_SECONDS}
    pool = WorkerPool(PoolSettings(**(defaults | settings)), observer)
    await pool.start()
    pids = pids_of(pool)
    try:
        yield pool
    finally:
        pids |= pids_of(pool)
        await pool.stop(drain_seconds=PATIENCE_SECONDS)
        assert not [pid for pid in pids if is_running(pid)]


def soon() -> float:
    """A deadline that no test reaches."""
    return time.monotonic() + 10 * PATIENCE_SECONDS


def caption_job(image: bytes = CAT, **arguments: Any) -> Job:
    return Job(task="caption", image=image, arguments=arguments)


def pids_of(pool: WorkerPool) -> set[int]:
    return {worker.pid for worker in pool.status().workers if worker.pid}


def private_bytes(pid: int) -> int:
    """Memory that the process shares with no other: what would be free without it (USS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that ended and was not reaped counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that must come."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "what the test waits for did not happen"
        await asyncio.sleep(0.005)
