"""One place in the pool: keeps a living worker there, and knows what it is doing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

from mobile_multimodal.errors import InternalError, MobileMultiModalError
from mobile_multimodal.serving.workers.channel import Header
from mobile_multimodal.serving.workers.error_record import error_of_record
from mobile_multimodal.serving.workers.pending_job import PendingJob
from mobile_multimodal.serving.workers.pool_observer import RestartReason
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.pool_status import WorkerState, WorkerStatus
from mobile_multimodal.serving.workers.resident_memory import resident_bytes_of
from mobile_multimodal.serving.workers.worker_handle import WorkerHandle

_logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.2  # doubled with each further end before a batch was done
_LONGEST_PAUSE_SECONDS: Final = 10.0
_PINGS_UNANSWERED: Final = 5  # counted, not timed: a front that was stopped itself for a while must kill nobody
_PICTURES_REMEMBERED: Final = 256  # more than a worker's caches hold


class SlotOwner(Protocol):
    """The pool, as a place in it sees it."""

    def on_frame(self, slot: WorkerSlot, header: Header) -> None:
        """The worker said something."""

    def on_lost(self, jobs: Sequence[PendingJob], reason: RestartReason | None, detail: str) -> None:
        """A worker is gone, and what it had with it; None: it will not be replaced."""


class WorkerSlot:
    """Starts a worker, again and again with growing pauses while they end, until `close`."""

    def __init__(self, index: int, settings: PoolSettings, owner: SlotOwner) -> None:
        self.index = index
        self.state: WorkerState = "starting"
        self.jobs: dict[int, PendingJob] = {}  # of the batch under way, by number
        self.batch_size = 0
        self.busy_since = 0.0
        self.idle_since = 0.0
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._owner = owner
        self._handle: WorkerHandle | None = None
        self._reason: RestartReason = "died"
        self._failure: MobileMultiModalError | None = None
        self._ends_in_a_row = 0
        self._jobs_done = 0
        self._restarts = 0
        self._last_error = ""
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._closing = asyncio.Event()
        self._stuck_timer: asyncio.TimerHandle | None = None
        self._pulse_timer: asyncio.TimerHandle | None = None
        self._pings_unanswered = 0
        self._life = asyncio.create_task(self._live(), name=f"mobile-mm-worker-{index}")

    @property
    def is_alive(self) -> bool:
        """Whether there is a worker that has opened the model, and answers."""
        return self.state in ("ready", "busy") and self._pings_unanswered < _PINGS_UNANSWERED

    def saw_picture_at(self, picture_key: str) -> float:
        """When the worker last worked on that picture; -inf for never."""
        return self._seen.get(picture_key, float("-inf"))

    def give(self, jobs: Sequence[PendingJob]) -> None:
        """Sends a batch to the worker, which is ready; it is killed when it is not done in time."""
        assert self._handle is not None, "only a worker that is ready is given a batch"
        now = time.monotonic()
        self.state = "busy"
        self.busy_since = now
        self.batch_size = len(jobs)
        self.jobs = {job.number: job for job in jobs}
        for job in jobs:
            job.begin(now)
            if job.picture_key:
                self._seen[job.picture_key] = now
                self._seen.move_to_end(job.picture_key)
        while len(self._seen) > _PICTURES_REMEMBERED:
            self._seen.popitem(last=False)
        self._handle.send(
            {"kind": "run", "jobs": [job.record() for job in jobs]}, [job.job.image or b"" for job in jobs]
        )
        given_up_at = max(job.deadline for job in jobs) + self._settings.stuck_grace_seconds
        self._stuck_timer = asyncio.get_running_loop().call_later(given_up_at - now, self._kill, "stuck")

    def cancel(self, job: PendingJob) -> None:
        """Asks the worker to call a job off."""
        if self._handle is not None and job.number in self.jobs:
            self._handle.send({"kind": "cancel", "numbers": [job.number]})

    def finish_batch(self) -> None:
        """The worker says that it is done."""
        if self.state == "dead":
            return  # it was killed a moment ago, and had said this before
        self._stop_timer()
        self._jobs_done += self.batch_size
        self._ends_in_a_row = 0
        self.jobs = {}
        self.state = "ready"
        self.idle_since = time.monotonic()
        bound = self._settings.worker_memory_bytes
        if bound is not None and self._handle is not None and resident_bytes_of(self._handle.pid) > bound:
            self._kill("memory")

    def status(self) -> WorkerStatus:
        """What is here at this moment."""
        pid = 0 if self._handle is None else self._handle.pid
        return WorkerStatus(
            pid=pid,
            state=self.state,
            task=next((job.job.task for job in self.jobs.values()), None),
            jobs_done=self._jobs_done,
            restarts=self._restarts,
            resident_bytes=resident_bytes_of(pid) if pid else 0,
            last_error=self._last_error,
        )

    async def close(self, grace_seconds: float) -> None:
        """Ends the worker, after the batch under way when that is done within the grace; no other one comes."""
        self._closing.set()
        if self._handle is not None:
            if self.is_alive:
                self._handle.send({"kind": "cancel", "numbers": list(self.jobs)})
                self._handle.send({"kind": "stop"})
            else:
                self._kill("died")
        try:
            await asyncio.wait([self._life], timeout=grace_seconds)
        finally:
            self._kill("died")
        await self._life

    async def _live(self) -> None:
        while not self._closing.is_set():
            detail = await self._one_worker()
            self._ends_in_a_row += 1
            if self.first_ready.cancelled() or self.first_ready.exception() is not None or self._closing.is_set():
                return  # what cannot start at all is for the caller of `start` to know
            self._restarts += 1
            pause = self._pause()
            _logger.warning("worker %d %s; the next one starts in %g s", self.index, detail, pause)
            try:
                await asyncio.wait_for(self._closing.wait(), pause)
            except asyncio.TimeoutError:
                self.state = "starting"

    def _pause(self) -> float:
        """0 after a worker that had done something, then growing: a worker that ends at once is not started in a
        loop."""
        if self._ends_in_a_row <= 1 or self._reason == "memory":
            return 0.0
        doublings = min(self._ends_in_a_row - 2, 16)
        return min(_FIRST_PAUSE_SECONDS * float(2**doublings), _LONGEST_PAUSE_SECONDS)

    async def _one_worker(self) -> str:
        """The life of one worker; returns how it ended."""
        self.state = "starting"
        self._reason = "died"
        self._failure = None
        try:
            handle = await WorkerHandle.start(self._settings, f"mobile-mm-worker-{self.index}")
        except (OSError, EOFError) as error:
            self.state = "dead"
            self._last_error = f"could not start: {error}"
            self._give_up_start(InternalError(f"worker {self.index} {self._last_error}", "check memory and limits"))
            return self._last_error
        self._handle = handle
        loop = asyncio.get_running_loop()
        self._stuck_timer = loop.call_later(self._settings.start_seconds, self._kill, "stuck")
        if self._closing.is_set():
            self._kill("died")
        try:
            await handle.listen(self._on_frame)
        except Exception:  # not one of our frames, or a defect of ours: nothing that this worker says can be trusted
            _logger.exception("worker %d said what is not understood", self.index)
        finally:
            self._stop_timer()
            if self._pulse_timer is not None:
                self._pulse_timer.cancel()
            self.state = "dead"
            jobs, self.jobs = tuple(self.jobs.values()), {}
            self._seen.clear()
            detail = self._detail(None)
            is_replaced = self.first_ready.done() and not self._closing.is_set()
            self._owner.on_lost(jobs, self._reason if is_replaced else None, detail)
            self._handle = None
            exit_code = await handle.reap()
        detail = self._detail(exit_code)
        self._last_error = detail
        self._give_up_start(
            self._failure or InternalError(f"worker {self.index} {detail} before it was ready", "see its error output")
        )
        return detail

    def _on_frame(self, header: Header) -> None:
        self._pings_unanswered = 0
        if header["kind"] == "pong":
            return
        if self.state == "dead" and header["kind"] == "ready":
            return  # it was killed a moment ago, and had said this before
        if header["kind"] == "failed":
            self._failure = error_of_record(header["error"])
            assert self._handle is not None
            self._handle.send({"kind": "stop"})
        elif header["kind"] == "ready":
            self._stop_timer()
            self.state = "ready"
            self.idle_since = time.monotonic()
            self._owner.on_frame(self, header)
            if not self.first_ready.done() and self._failure is None:
                self.first_ready.set_result(None)
            self._feel_pulse()
        else:
            self._owner.on_frame(self, header)

    def refuse(self, error: MobileMultiModalError) -> None:
        """The worker that just became ready must not work: its model file is another."""
        self._failure = error
        self._kill("died")

    def _feel_pulse(self) -> None:
        """Asks the worker whether it is there, again and again."""
        if self._pings_unanswered >= _PINGS_UNANSWERED and self.state == "ready":
            self._kill("stuck")
        elif self._handle is not None:
            self._pings_unanswered += 1
            self._handle.send({"kind": "ping"})
            self._pulse_timer = asyncio.get_running_loop().call_later(
                self._settings.silent_seconds / _PINGS_UNANSWERED, self._feel_pulse
            )

    def _give_up_start(self, error: MobileMultiModalError) -> None:
        if not self.first_ready.done():
            self.first_ready.set_exception(error)

    def _detail(self, exit_code: int | None) -> str:
        if self._failure is not None:
            return f"could not start: {self._failure.message}"
        if self._reason == "stuck":
            return "was killed: it did not answer in time"
        if self._reason == "memory":
            return f"was replaced: it held more than {self._settings.worker_memory_bytes} bytes"
        if exit_code is None:
            return "ended"
        return f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with code {exit_code}"

    def _kill(self, reason: RestartReason) -> None:
        if self._handle is not None:
            self._reason = reason
            self.state = "dead"
            self._handle.kill()

    def _stop_timer(self) -> None:
        if self._stuck_timer is not None:
            self._stuck_timer.cancel()
            self._stuck_timer = None
