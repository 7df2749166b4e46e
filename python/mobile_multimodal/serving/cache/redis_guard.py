"""Lets a stopped, slow or full Redis cost a request one short time-out at most, and nothing once that is known."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import pybreaker
import redis.exceptions
from pydantic import Field, SecretStr, field_validator
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from mobile_multimodal.serving.configuration.policy_settings import PolicySettings

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# Answers that say something about one key, not about Redis: they must not turn Redis off for everybody.
_VALUE_ERRORS: Final = ("WRONGTYPE", "ERR value is not an integer", "value is not an integer")
_PROBE_SECONDS: Final = 1.0  # a probe waits longer than a request may: nobody waits for it


class RedisSettings(PolicySettings):
    """Where Redis is and how long a request may wait for it.

    url                redis://, rediss:// or unix://, a password and a database number in it if need be
    timeout_seconds    no call takes longer, connecting included
    connections        at most this many connections a process; a call that finds none free waits within its time-out
    failures_to_open   after this many failures in a row Redis is left alone
    retry_seconds      then it is tried again this often, in the background
    """

    url: SecretStr
    timeout_seconds: float = Field(default=0.1, gt=0, le=5)
    connections: int = Field(default=16, ge=1, le=1024)
    failures_to_open: int = Field(default=3, ge=1, le=100)
    retry_seconds: float = Field(default=1.0, gt=0, le=60)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr) -> SecretStr:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("redis", "rediss", "unix") or not (parts.hostname or parts.path):
            raise ValueError("expected redis://host:port/0, rediss://host:port/0 or unix:///path/to/socket")
        return url


class RedisCallError(Exception):
    """A call gave no usable answer; whoever made it goes on without Redis."""


class RedisDownError(RedisCallError):
    """Redis did not answer in time, or was not asked because it lately did not."""


class RedisValueError(RedisCallError):
    """Redis works, but what it holds under the key is of another kind."""


@dataclass(frozen=True, kw_only=True)
class RedisStatus:
    """What the metric mobile_multimodal_backend_up{backend="redis",use} and /health show."""

    use: str
    is_up: bool
    calls: int
    failures: int
    refused: int  # calls that were not made because Redis was known to be down


class RedisGuard:
    """One client of Redis behind one circuit breaker.

    While the breaker is closed a call may take `timeout_seconds`. After `failures_to_open` failures in a row it opens,
    and calls raise RedisDownError at once. A task in the background then writes a small key every `retry_seconds`, and
    closes the breaker when that works: no request is ever the one that tries.
    """

    def __init__(self, settings: RedisSettings, use: Literal["cache", "limits"]) -> None:
        self.settings = settings
        self.use = use
        pool = BlockingConnectionPool.from_url(
            settings.url.get_secret_value(),
            max_connections=settings.connections,
            timeout=settings.timeout_seconds,
            socket_connect_timeout=settings.timeout_seconds,
            socket_timeout=max(settings.timeout_seconds, _PROBE_SECONDS),  # the guard's own time-out comes first
            # Once, for a connection that a restart of Redis left behind, and at once; time-outs are not tried again
            # (redis-py's own default waits for seconds).
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)),
        )
        self.client: Redis = Redis(connection_pool=pool)
        # The reset time-out is 0 because `_recover` decides when to try, by a clock that nobody sets back.
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=settings.failures_to_open, reset_timeout=0, exclude=[lambda error: not _is_failure(error)]
        )
        self._running: set[asyncio.Future[Any]] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._is_closed = False
        self._calls = self._failures = self._refused = 0

    @property
    def is_up(self) -> bool:
        """Whether calls are made."""
        return not self._is_closed and str(self._breaker.current_state) == pybreaker.STATE_CLOSED

    def status(self) -> RedisStatus:
        """The state and what was counted since the start."""
        return RedisStatus(
            use=self.use, is_up=self.is_up, calls=self._calls, failures=self._failures, refused=self._refused
        )

    async def call(self, operation: Callable[[Redis], Awaitable[_Result]]) -> _Result:
        """What `operation` makes of the client, or RedisCallError within the time-out.

        The operation runs in a task of its own: a client that goes away neither counts as a failure of Redis nor
        leaves a connection with half an answer in it.
        """
        if not self.is_up:
            self._refused += 1
            raise RedisDownError(f"Redis for {self.use} is left alone until it answers again")
        return await asyncio.shield(self._started(self._attempt(operation)))

    async def close(self) -> None:
        """Waits for running calls, each of which ends by its time-out, and closes the connections."""
        self._is_closed = True
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait({self._recovery})
        if self._running:
            await asyncio.wait(self._running, timeout=self.settings.timeout_seconds + _PROBE_SECONDS)
        with contextlib.suppress(RedisError, OSError):
            await self.client.aclose(close_connection_pool=True)

    async def _attempt(self, operation: Callable[[Redis], Awaitable[_Result]]) -> _Result:
        self._calls += 1
        try:
            with self._breaker.calling():
                return await self._in_time(operation(self.client), self.settings.timeout_seconds)
        except ResponseError as error:
            if not _is_failure(error):
                raise RedisValueError(str(error)) from error
            self._note_failure(error)
            raise RedisDownError(f"Redis for {self.use} refuses: {error}") from error
        except (RedisError, OSError, asyncio.TimeoutError, pybreaker.CircuitBreakerError) as error:
            self._note_failure(error)
            raise RedisDownError(f"Redis for {self.use} did not answer: {type(error).__name__}") from error

    async def _in_time(self, work: Awaitable[_Result], seconds: float) -> _Result:
        """As asyncio.wait_for, which however waits on while what it cancelled closes its connection."""
        task = self._started(work)
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.cancel()
            raise asyncio.TimeoutError
        return task.result()

    def _started(self, work: Awaitable[_Result]) -> asyncio.Future[_Result]:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: after a time-out nobody else does

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        recovers = self._recovery is not None and not self._recovery.done()
        if str(self._breaker.current_state) != pybreaker.STATE_CLOSED and not recovers and not self._is_closed:
            cause = error.__context__ if isinstance(error, pybreaker.CircuitBreakerError) else error
            _log.warning("redis for %s is left alone: %s", self.use, type(cause).__name__)
            # In a context of its own: what it logs later belongs to no request.
            self._recovery = contextvars.Context().run(asyncio.get_running_loop().create_task, self._recover())

    async def _recover(self) -> None:
        while str(self._breaker.current_state) != pybreaker.STATE_CLOSED:
            # Spread by a quarter, so that many processes do not all knock at once.
            await asyncio.sleep(self.settings.retry_seconds * random.uniform(0.75, 1.25))
            failures = contextlib.suppress(RedisError, OSError, asyncio.TimeoutError, pybreaker.CircuitBreakerError)
            with failures, self._breaker.calling():
                # A write, because a full Redis still answers PING.
                probe = self.client.set(f"mobile_mm:probe:{self.use}", "1", px=1000)
                await self._in_time(probe, _PROBE_SECONDS)
        _log.warning("redis for %s answers again", self.use)


def _is_failure(error: BaseException) -> bool:
    if isinstance(error, ResponseError):
        return not any(mark in str(error) for mark in _VALUE_ERRORS)
    return isinstance(error, (RedisError, OSError, asyncio.TimeoutError))
