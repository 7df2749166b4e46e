"""Answers jobs with a pool of worker processes: waits, batches, deadlines, and workers that die."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from mobile_multimodal.errors import (
    DeadlineExceededError,
    DrainingError,
    InvalidInputError,
    MobileMultiModalError,
    ModelFormatError,
    QueueFullError,
    UnavailableError,
    WorkerLostError,
)
from mobile_multimodal.serving.workers.channel import Header
from mobile_multimodal.serving.workers.error_record import error_of_record
from mobile_multimodal.serving.workers.expected_wait import ExpectedWait
from mobile_multimodal.serving.workers.job import Job, JobResult
from mobile_multimodal.serving.workers.job_queue import JobQueue
from mobile_multimodal.serving.workers.pending_job import PendingJob
from mobile_multimodal.serving.workers.pool_observer import PoolObserver, RestartReason
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.pool_status import ModelIdentity, PoolStatus
from mobile_multimodal.serving.workers.quarantine import BARRED_SECONDS, Quarantine
from mobile_multimodal.serving.workers.scheduler import Assignment, Scheduler, WaitUntil
from mobile_multimodal.serving.workers.throughput import Throughput
from mobile_multimodal.serving.workers.worker_slot import WorkerSlot
from mobile_multimodal.settings import MAX_DEADLINE_SECONDS

_logger = logging.getLogger(__name__)

_HASHED_HERE_BYTES: Final = 1 << 20  # 1 ms of SHA-256; longer pictures are hashed off the event loop


class WorkerPool:
    """A bounded queue in front of worker processes. Everything happens on the event loop that called `start`."""

    def __init__(self, settings: PoolSettings, observer: PoolObserver | None = None) -> None:
        self._settings = settings
        self._observer = PoolObserver() if observer is None else observer
        self._queue = JobQueue(settings.queue_length, settings.queue_bytes)
        self._scheduler = Scheduler(
            workers=settings.worker_count,
            max_batch=settings.max_batch,
            batch_wait_seconds=settings.batch_wait_milliseconds / 1000,
        )
        self._quarantine = Quarantine()
        self._throughput = Throughput()
        self._expected_wait = ExpectedWait(workers=settings.worker_count)
        self._numbers = itertools.count(1)
        self._slots: list[WorkerSlot] = []
        self._wake: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_draining = False
        self._told_length = 0
        self._model: ModelIdentity | None = None
        self._programs: tuple[str, ...] = ()
        self._isa = ""

    async def start(self) -> None:
        """Starts the workers and returns when every one is ready; raises what kept the first one from it."""
        if self._slots:
            raise InvalidInputError("the pool was started before", "make a new one")
        self._slots = [WorkerSlot(index, self._settings, self) for index in range(self._settings.worker_count)]
        try:
            await asyncio.gather(*(slot.first_ready for slot in self._slots))
        except BaseException:
            await self.stop(drain_seconds=0)
            raise

    async def run(self, job: Job, *, deadline: float) -> JobResult:
        """The result of a job. Cancelling the caller's task cancels the job.

        deadline  when the answer must be there, on the clock of time.monotonic(); at most an hour ahead
        Raises QueueFullError, DrainingError, WorkerLostError, DeadlineExceededError, and what the task raises.
        """
        pending = await self._submit(job, deadline, is_stream=False)
        try:
            return await pending.future
        except asyncio.CancelledError:
            self._abandon(pending)
            raise

    async def stream(self, job: Job, *, deadline: float) -> AsyncIterator[dict[str, Any] | JobResult]:
        """The pieces of a caption as they are written (text, token, probability), then its result.

        Closing the iterator cancels the job. Raises what `run` raises; InvalidInputError for beams, which change
        their mind until the end.
        """
        if job.task != "caption" or job.arguments.get("num_beams") not in (None, 1):
            what = f"task is {job.task!r}" if job.task != "caption" else f"num_beams is {job.arguments['num_beams']}"
            raise InvalidInputError(f"{what} in a stream, expected a caption with 1 beam", "ask without streaming")
        pending = await self._submit(job, deadline, is_stream=True)
        try:
            while (piece := await pending.pieces.get()) is not None:
                yield piece
            yield await pending.future
        finally:
            self._abandon(pending)

    def status(self) -> PoolStatus:
        """What the pool is doing at this moment."""
        alive = sum(slot.is_alive for slot in self._slots)
        return PoolStatus(
            workers=tuple(slot.status() for slot in self._slots),
            queue_length=len(self._queue),
            queue_limit=self._queue.limit,
            running=sum(len(slot.jobs) for slot in self._slots),
            is_ready=self._model is not None and alive > 0 and not self._is_draining,
            is_degraded=alive < len(self._slots),
            is_draining=self._is_draining,
            model=self._model,
            programs=self._programs,
            isa=self._isa,
        )

    async def stop(self, *, drain_seconds: float) -> None:
        """Refuses new jobs, finishes those it has within the time, fails the rest, and ends all workers."""
        self._is_draining = True
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), drain_seconds)
        error = DrainingError("the server stopped before the job's turn came", "ask again: another may be there")
        for pending in self._queue:
            self._fail(pending, error)
        self._queue.remove(self._queue)
        for slot in self._slots:
            for pending in slot.jobs.values():
                self._fail(pending, error)
        await asyncio.gather(*(slot.close(self._settings.stuck_grace_seconds) for slot in self._slots))
        self._step()

    def on_frame(self, slot: WorkerSlot, header: Header) -> None:
        """A worker said something."""
        if header["kind"] == "ready":
            self._welcome(slot, header["model"])
        elif header["kind"] == "piece":
            slot.jobs[header["number"]].add_piece(header["piece"])
        else:
            pending = slot.jobs.pop(header["number"])
            self._quarantine.clear(pending.picture_key)
            if header["kind"] == "error":
                self._fail(pending, error_of_record(header["error"]))
            else:
                self._succeed(pending, slot, header)
            if header["done"] is not None:
                self._tell(self._observer.feature_cache, *header["done"])
                batch_seconds = time.monotonic() - slot.busy_since
                self._throughput.add(batch_seconds, slot.batch_size)
                self._expected_wait.add(pending.job.task, batch_seconds, slot.batch_size)
                slot.finish_batch()
        self._step()

    def on_lost(self, jobs: Sequence[PendingJob], reason: RestartReason | None, detail: str) -> None:
        """A worker is gone: its jobs go to another one, alone, or fail."""
        now = time.monotonic()
        if reason != "memory":
            self._quarantine.blame((pending.picture_key for pending in jobs), now)
        again = []
        for pending in jobs:
            pending.losses += 1
            pending.batch_key = None  # who is to blame is not known yet: nobody else is drawn into it
            if pending.is_settled:
                continue
            if pending.losses > self._settings.retries or self._quarantine.is_barred(pending.picture_key, now):
                self._fail(pending, self._lost_error(pending.losses, detail))
            else:
                again.append(pending)
        self._queue.add_first(again)
        barred = [pending for pending in self._queue if self._quarantine.is_barred(pending.picture_key, now)]
        self._queue.remove(barred)
        for pending in barred:
            self._fail(pending, self._barred_error())
        if reason is not None:
            self._tell(self._observer.worker_restarted, reason)
        self._step()

    async def _submit(self, job: Job, deadline: float, *, is_stream: bool) -> PendingJob:
        if not math.isfinite(deadline):
            raise InvalidInputError(f"deadline is {deadline}, expected a time", "pass time.monotonic() + seconds")
        queued_at = time.monotonic()
        picture = job.image or b""
        self._check_open(job)
        if len(picture) > _HASHED_HERE_BYTES:
            picture_key = (await asyncio.to_thread(hashlib.sha256, picture)).hexdigest()
            self._check_open(job)
        else:
            picture_key = hashlib.sha256(picture).hexdigest() if picture else ""
        now = time.monotonic()
        losses = self._quarantine.losses_of(picture_key, now)
        if self._quarantine.is_barred(picture_key, now):
            raise self._barred_error()
        pending = PendingJob(
            number=next(self._numbers),
            job=job,
            picture_key=picture_key,
            deadline=min(deadline, now + MAX_DEADLINE_SECONDS),
            queued_at=queued_at,
            is_stream=is_stream,
        )
        if losses:
            pending.batch_key = None
        if deadline <= now:
            self._expire(pending)
        else:
            pending.timer = asyncio.get_running_loop().call_later(pending.deadline - now, self._expire, pending)
            self._queue.add(pending)
            self._step()
        return pending

    def _check_open(self, job: Job) -> None:
        if self._is_draining:
            raise DrainingError("the server is stopping", "ask again: another may be there")
        if self._model is None:
            raise UnavailableError("no worker has opened the model yet", "ask again in a second")
        if not self._queue.takes(len(job.image or b"")):
            alive = sum(slot.is_alive for slot in self._slots)
            seconds = self._throughput.seconds_for(len(self._queue) + 1, alive)
            raise QueueFullError(
                f"{len(self._queue)} jobs with {self._queue.bytes} bytes wait already, expected at most "
                f"{self._queue.limit} with {self._queue.limit_bytes}",
                f"ask again in {seconds:.1f} s, or give the server more CPUs",
                retry_after_seconds=seconds,
            )
        self._check_wait(job)

    def _check_wait(self, job: Job) -> None:
        bound = self._settings.max_wait_seconds
        if bound is None:
            return
        now = time.monotonic()
        running = [
            (next(iter(slot.jobs.values())).job.task, slot.batch_size, now - slot.busy_since)
            for slot in self._slots
            if slot.jobs
        ]
        seconds = self._expected_wait.seconds_before(job.task, [pending.job.task for pending in self._queue], running)
        if seconds > bound:
            raise QueueFullError(
                f"the job would wait about {seconds:.2f} s for a worker, expected at most {bound:g} s",
                f"ask again in {seconds:.1f} s, or give the server more CPUs",
                retry_after_seconds=seconds,
            )

    def _step(self) -> None:
        """Gives free workers what is their turn, and sets the alarm for what must wait a little."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        while True:
            now = time.monotonic()
            free = [slot for slot in self._slots if slot.state == "ready"]
            readers = sum(any(job.job.task == "ocr" for job in slot.jobs.values()) for slot in self._slots)
            choice = self._scheduler.choose(self._queue, free, readers, now)
            if isinstance(choice, Assignment):
                self._queue.remove(choice.jobs)
                self._slots[choice.worker].give(choice.jobs)
                for pending in choice.jobs:
                    self._tell(self._observer.job_started, pending.job.task, pending.queue_seconds, len(choice.jobs))
                continue
            if isinstance(choice, WaitUntil):
                self._wake = asyncio.get_running_loop().call_later(choice.time - now, self._step)
            break
        if len(self._queue) != self._told_length:
            self._told_length = len(self._queue)
            self._tell(self._observer.queue_changed, self._told_length)
        if len(self._queue) or any(not job.is_settled for slot in self._slots for job in slot.jobs.values()):
            self._idle.clear()
        else:
            self._idle.set()

    def _welcome(self, slot: WorkerSlot, record: Header) -> None:
        model = ModelIdentity(**{name: record[name] for name in ("name", "version", "sha256", "path", "file_bytes")})
        if self._model is None:
            self._model = model
            self._programs = tuple(record["programs"])
            self._isa = record["isa"]
        elif self._model.sha256 != model.sha256:
            slot.refuse(
                ModelFormatError(
                    f"model file {model.path!r} is another one than when the server started", "start the server again"
                )
            )

    def _succeed(self, pending: PendingJob, slot: WorkerSlot, header: Header) -> None:
        if pending.is_settled:
            return
        self._tell(self._observer.job_finished, pending.job.task, header["inference_seconds"], header["value"])
        pending.succeed(
            JobResult(
                value=header["value"],
                queue_seconds=pending.queue_seconds,
                inference_seconds=header["inference_seconds"],
                batch_size=slot.batch_size,
                worker=slot.index,
            )
        )

    def _fail(self, pending: PendingJob, error: MobileMultiModalError) -> None:
        if not pending.is_settled:
            self._tell(self._observer.job_failed, pending.job.task, error)
            pending.fail(error)

    def _tell(self, tell: Callable[..., None], *facts: Any) -> None:
        try:
            tell(*facts)
        except Exception:  # a defect in counting must not stop the work
            _logger.exception("the pool's observer failed")

    def _expire(self, pending: PendingJob) -> None:
        """The deadline is here: the caller is told now, whatever the worker does."""
        was_waiting = pending in self._queue
        waited = time.monotonic() - pending.queued_at
        self._fail(
            pending,
            DeadlineExceededError(
                f"the deadline passed {waited:.3f} s after the job came, "
                + ("while it waited for a worker" if was_waiting else "while a worker had it"),
                "allow more time, or ask when fewer others do",
            ),
        )
        self._let_go(pending)

    def _abandon(self, pending: PendingJob) -> None:
        """The caller is gone."""
        pending.abandon()
        self._let_go(pending)

    def _let_go(self, pending: PendingJob) -> None:
        self._queue.remove([pending])
        for slot in self._slots:
            slot.cancel(pending)
        self._step()

    def _lost_error(self, losses: int, detail: str) -> WorkerLostError:
        return WorkerLostError(
            f"the worker {detail} while it had the job" + (f", as {losses - 1} before" if losses > 1 else ""),
            "ask again; if it happens again, the picture may be the cause",
        )

    def _barred_error(self) -> WorkerLostError:
        return WorkerLostError(
            "two workers ended while they had this picture, so no third one gets it",
            f"send another picture, or this one again in {BARRED_SECONDS:g} s",
            retry_after_seconds=BARRED_SECONDS,
        )
