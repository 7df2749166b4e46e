"""Counts calls, failures, tokens and latencies of a model, from any number of threads."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

LATENCY_WINDOW: Final = 1024  # calls; quantiles follow a change of load within minutes and cost 8 KB


@dataclass(frozen=True, kw_only=True)
class PerformanceMetrics:
    """What a model has done since it was loaded; latencies are of the last 1,024 successful calls.

    calls                        finished calls, failures among them
    failures                     calls that raised, by the name of the error
    latency_milliseconds_p50     waiting for other callers is part of it; 0 before the first call
    tokens                       written tokens
    tokens_per_second            tokens / seconds spent inside successful calls
    """

    calls: int
    failures: dict[str, int]
    latency_milliseconds_mean: float
    latency_milliseconds_p50: float
    latency_milliseconds_p95: float
    tokens: int
    tokens_per_second: float
    calls_under_way: int
    uptime_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON."""
        return asdict(self)


class PerformanceCounter:
    """The running totals behind PerformanceMetrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._calls = 0
        self._under_way = 0
        self._tokens = 0
        self._seconds = 0.0
        self._failures: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=LATENCY_WINDOW)

    @contextmanager
    def call(self) -> Iterator[list[int]]:
        """Times one call; the caller appends the number of written tokens to the list it gets."""
        tokens: list[int] = []
        with self._lock:
            self._under_way += 1
        start = time.perf_counter()
        failure: str | None = None
        try:
            yield tokens
        except BaseException as error:
            failure = type(error).__name__
            raise
        finally:
            seconds = time.perf_counter() - start
            with self._lock:
                self._under_way -= 1
                self._calls += 1
                if failure is None:
                    self._latencies.append(seconds * 1000)
                    self._seconds += seconds
                    self._tokens += sum(tokens)
                else:
                    self._failures[failure] += 1

    def metrics(self) -> PerformanceMetrics:
        """The totals of this moment."""
        with self._lock:
            latencies = sorted(self._latencies)
            return PerformanceMetrics(
                calls=self._calls,
                failures=dict(self._failures),
                latency_milliseconds_mean=sum(latencies) / len(latencies) if latencies else 0.0,
                latency_milliseconds_p50=quantile(latencies, 0.5),
                latency_milliseconds_p95=quantile(latencies, 0.95),
                tokens=self._tokens,
                tokens_per_second=self._tokens / self._seconds if self._seconds > 0 else 0.0,
                calls_under_way=self._under_way,
                uptime_seconds=time.monotonic() - self._started,
            )


def quantile(ascending: Sequence[float], fraction: float) -> float:
    """The value below which `fraction` of the values lie, linear between neighbours; 0 for no values."""
    if not ascending:
        return 0.0
    place = fraction * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (place - below)
