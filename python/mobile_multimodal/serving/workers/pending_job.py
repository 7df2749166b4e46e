"""One job on its way through the pool: who waits for it, and what has happened to it so far."""

from __future__ import annotations

import asyncio
from typing import Any

from mobile_multimodal.errors import MobileMultiModalError
from mobile_multimodal.serving.workers.job import Job, JobResult
from mobile_multimodal.settings import GenerationSettings


class PendingJob:
    """A job between its call and its answer.

    batch_key   jobs of one key may share a worker's turn; None is alone
    deadline    on the clock of time.monotonic()
    losses      so many workers ended while they had it
    pieces      of a streamed caption, then None; nothing is put there for other jobs
    future      the answer
    """

    def __init__(
        self, *, number: int, job: Job, picture_key: str, deadline: float, queued_at: float, is_stream: bool
    ) -> None:
        self.number = number
        self.job = job
        self.picture_key = picture_key
        self.deadline = deadline
        self.queued_at = queued_at
        self.is_stream = is_stream
        self.batch_key: GenerationSettings | None = None if is_stream else job.batch_key
        self.losses = 0
        self.queue_seconds = 0.0
        self.pieces: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.future: asyncio.Future[JobResult] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None
        self._pieces_sent = 0
        self._pieces_of_this_try = 0

    @property
    def picture_bytes(self) -> int:
        """Of the picture's file."""
        return len(self.job.image or b"")

    @property
    def is_settled(self) -> bool:
        """Whether the caller has its answer, or does not want one any more."""
        return self.future.done()

    def begin(self, now: float) -> None:
        """A worker gets the job."""
        self.queue_seconds = now - self.queued_at
        self._pieces_of_this_try = 0

    def add_piece(self, piece: dict[str, Any]) -> None:
        """Hands a piece on; a second worker writes the same sentence anew, and what was handed on is not repeated."""
        self._pieces_of_this_try += 1
        if not self.is_settled and self._pieces_of_this_try > self._pieces_sent:
            self._pieces_sent += 1
            self.pieces.put_nowait(piece)

    def succeed(self, result: JobResult) -> None:
        """Gives the caller its result."""
        if not self.is_settled:
            self.future.set_result(result)
            self._end()

    def fail(self, error: MobileMultiModalError) -> None:
        """Gives the caller an error."""
        if not self.is_settled:
            self.future.set_exception(error)
            self._end()

    def abandon(self) -> None:
        """The caller is gone."""
        if not self.future.cancel() and not self.future.cancelled():
            self.future.exception()  # answered, but too late to be read: asyncio would complain of an error nobody saw
        self._end()

    def record(self) -> dict[str, Any]:
        """What crosses to the worker as JSON; the picture's bytes follow those of the jobs before it in the frame."""
        return {
            "number": self.number,
            "task": self.job.task,
            "arguments": dict(self.job.arguments),
            "deadline": self.deadline,
            "picture_bytes": self.picture_bytes,
            "picture_key": self.picture_key,
            "is_stream": self.is_stream,
        }

    def _end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.pieces.put_nowait(None)
