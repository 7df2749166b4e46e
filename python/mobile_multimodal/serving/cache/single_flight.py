"""Lets several who want the same thing at the same time wait for one that works it out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mobile_multimodal.errors import DeadlineExceededError, OperationCancelledError

_Result = TypeVar("_Result")


@dataclass
class _Flight(Generic[_Result]):
    task: asyncio.Task[_Result]
    waiting: int = 0


class SingleFlight(Generic[_Result]):
    """One task a key. It belongs to nobody: a leader that goes away leaves the followers theirs, and only when the
    last has gone is the work cancelled."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[_Result]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def run(
        self, key: str, compute: Callable[[], Awaitable[_Result]], *, deadline: float | None = None
    ) -> tuple[_Result, bool]:
        """The result, and whether this call led: its own `compute` ran.

        An error of the leader is everybody's error, but not when it ran out of its own time or was cancelled: then the
        next one leads, with its own `compute`. DeadlineExceededError at `deadline`, a value of time.monotonic().
        """
        while True:
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._start(key, compute)
            flight.waiting += 1
            try:
                # Not `await flight.task`: that would cancel the work together with whoever waits.
                await asyncio.wait({flight.task}, timeout=_seconds_until(deadline))
            finally:
                flight.waiting -= 1
                if flight.waiting == 0 and not flight.task.done():
                    self._forget(key, flight)  # at once: who comes now must not join work that is being cancelled
                    flight.task.cancel()
            if not flight.task.done():
                raise DeadlineExceededError("the deadline passed before the answer was there", "allow more time")
            try:
                return flight.task.result(), leads
            except (DeadlineExceededError, OperationCancelledError):
                if leads:
                    raise

    def _start(self, key: str, compute: Callable[[], Awaitable[_Result]]) -> _Flight[_Result]:
        async def work() -> _Result:
            try:
                return await compute()
            except asyncio.CancelledError:
                # Not CancelledError: to a follower that would read as if he himself were cancelled.
                raise OperationCancelledError("the work was cancelled") from None

        flight = _Flight(task=asyncio.get_running_loop().create_task(work()))
        self._flights[key] = flight
        flight.task.add_done_callback(lambda task: self._ended(key, flight))
        return flight

    def _ended(self, key: str, flight: _Flight[_Result]) -> None:
        self._forget(key, flight)
        if not flight.task.cancelled():
            flight.task.exception()  # looked at, so that asyncio does not complain when nobody waits any more

    def _forget(self, key: str, flight: _Flight[_Result]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def _seconds_until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
