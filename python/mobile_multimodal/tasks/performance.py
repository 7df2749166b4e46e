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
class TaskMetrics:
    """What one task has done; latencies are of its last 1,024 successful calls, 0 before the first."""

    calls: int
    failures: dict[str, int]
    latency_milliseconds_mean: float
    latency_milliseconds_p50: float
    latency_milliseconds_p95: float


@dataclass(frozen=True, kw_only=True)
class PerformanceMetrics:
    """What a model has done since it was loaded; latencies are of the last 1,024 successful calls of all tasks.

    calls                        finished calls, failures among them
    failures                     calls that raised, by the name of the error
    latency_milliseconds_p50     waiting for other callers is part of it; 0 before the first call
    tokens                       written tokens
    tokens_per_second            tokens / seconds spent inside successful calls that wrote some
    tasks                        the same by task, such as "caption" or "read_text": those that were called
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
    tasks: dict[str, TaskMetrics]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FeatureCacheStatistics:
    """How often the encoding of a picture was at hand, and how many bytes the kept ones take."""

    hits: int
    misses: int
    bytes: int


class _Tally:
    """Totals of one task, or of all."""

    def __init__(self) -> None:
        self.calls = 0
        self.failures: Counter[str] = Counter()
        self.latencies: deque[float] = deque(maxlen=LATENCY_WINDOW)

    def count(self, milliseconds: float, failure: str | None) -> None:
        self.calls += 1
        if failure is None:
            self.latencies.append(milliseconds)
        else:
            self.failures[failure] += 1

    def metrics(self) -> dict[str, Any]:
        """The fields that TaskMetrics and PerformanceMetrics share."""
        ascending = sorted(self.latencies)
        return {
            "calls": self.calls,
            "failures": dict(self.failures),
            "latency_milliseconds_mean": sum(ascending) / len(ascending) if ascending else 0.0,
            "latency_milliseconds_p50": quantile(ascending, 0.5),
            "latency_milliseconds_p95": quantile(ascending, 0.95),
        }


class PerformanceCounter:
    """The running totals behind PerformanceMetrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._under_way = 0
        self._tokens = 0
        self._writing_seconds = 0.0
        self._all = _Tally()
        self._tasks: dict[str, _Tally] = {}

    @contextmanager
    def call(self, task: str) -> Iterator[list[int]]:
        """Times one call of a task; the caller appends the number of written tokens to the list it gets."""
        tokens: list[int] = []
        with self._timed(task, 1, tokens):
            yield tokens

    @contextmanager
    def calls(self, task: str, count: int) -> Iterator[list[int | str]]:
        """Times calls that are done together, each as long as all; the caller appends the written tokens of each, or
        the name of its error."""
        outcomes: list[int | str] = []
        with self._timed(task, count, outcomes):
            yield outcomes

    @contextmanager
    def _timed(self, task: str, count: int, outcomes: Sequence[int | str]) -> Iterator[None]:
        with self._lock:
            self._under_way += count
        start = time.perf_counter()
        failure: str | None = None
        try:
            yield
        except BaseException as error:
            failure = type(error).__name__
            raise
        finally:
            seconds = time.perf_counter() - start
            failures = [outcome for outcome in outcomes if isinstance(outcome, str)]
            if failure is not None:
                failures = [failure] * count
            tokens = [outcome for outcome in outcomes if isinstance(outcome, int)] if failure is None else []
            with self._lock:
                self._under_way -= count
                for tally in (self._all, self._tasks.setdefault(task, _Tally())):
                    for name in failures:
                        tally.count(seconds * 1000, name)
                    for _ in range(count - len(failures)):
                        tally.count(seconds * 1000, None)
                if tokens:
                    self._writing_seconds += seconds
                    self._tokens += sum(tokens)

    def metrics(self) -> PerformanceMetrics:
        """The totals of this moment."""
        with self._lock:
            return PerformanceMetrics(
                **self._all.metrics(),
                tokens=self._tokens,
                tokens_per_second=self._tokens / self._writing_seconds if self._writing_seconds > 0 else 0.0,
                calls_under_way=self._under_way,
                uptime_seconds=time.monotonic() - self._started,
                tasks={name: TaskMetrics(**tally.metrics()) for name, tally in self._tasks.items()},
            )


def quantile(ascending: Sequence[float], fraction: float) -> float:
    """The value below which `fraction` of the values lie, linear between neighbours; 0 for no values."""
    if not ascending:
        return 0.0
    place = fraction * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (place - below)
