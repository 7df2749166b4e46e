"""Counts what a server does, for Prometheus and for /v1/stats; the names are those of docs/serving.md."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mobile_multimodal import __version__
from mobile_multimodal.serving.cache.redis_guard import RedisStatus
from mobile_multimodal.serving.cache.response_cache import Source
from mobile_multimodal.serving.workers.job import Task
from mobile_multimodal.serving.workers.pool_observer import PoolObserver, RestartReason

if TYPE_CHECKING:
    from mobile_multimodal.serving.workers.pool_status import PoolStatus

_PREFIX: Final = "mobile_multimodal"
# 0.5 is the service's promise: an alert asks for the share below it. A caption takes about 0.025 on an idle machine.
_SECONDS: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WAIT_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
_TENTHS: Final = tuple(tenth / 10 for tenth in range(1, 11))
_RECENT: Final = 512  # per task, for the quantiles of /v1/stats; Prometheus has its histograms


class ServerMetrics(PoolObserver):
    """The counters of one app, in a registry of its own. It observes the pool: see PoolObserver."""

    def __init__(self, *, queue_limit: int, process_metrics: bool = True) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            f"{_PREFIX}_requests", "Requests answered", ["method", "endpoint", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            f"{_PREFIX}_request_duration_seconds",
            "From the header of a request to the end of its answer",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._inference_seconds = Histogram(
            f"{_PREFIX}_inference_duration_seconds",
            "Decoding a picture and running the model, in a worker",
            ["task"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue_seconds = Histogram(
            f"{_PREFIX}_queue_wait_seconds",
            "From entering the queue to a worker",
            ["task"],
            buckets=_WAIT_SECONDS,
            registry=registry,
        )
        self._batch_size = Histogram(
            f"{_PREFIX}_batch_size", "Requests computed together", ["task"], buckets=_BATCH_SIZES, registry=registry
        )
        self._confidence = Histogram(
            f"{_PREFIX}_confidence", "How sure the model was", ["task"], buckets=_TENTHS, registry=registry
        )
        self._errors = Counter(f"{_PREFIX}_errors", "Requests that failed, by problem", ["type"], registry=registry)
        self._rejected = Counter(
            f"{_PREFIX}_rejected", "Requests turned away before any work", ["reason"], registry=registry
        )
        self._disconnects = Counter(
            f"{_PREFIX}_disconnects", "Clients that left before their answer", registry=registry
        )
        self._in_flight = Gauge(f"{_PREFIX}_requests_in_flight", "Requests being answered", registry=registry)
        self._queue_limit = Gauge(
            f"{_PREFIX}_inference_queue_limit", "Requests that may wait for a worker", registry=registry
        )
        self._queue_limit.set(queue_limit)
        self._cache_hits = Counter(
            f"{_PREFIX}_cache_hits", "Answers or encoded pictures found", ["cache", "backend"], registry=registry
        )
        self._cache_misses = Counter(
            f"{_PREFIX}_cache_misses", "Answers or encoded pictures not found", ["cache"], registry=registry
        )
        self._restarts = Counter(
            f"{_PREFIX}_worker_restarts", "Workers replaced, by cause", ["reason"], registry=registry
        )
        for reason in ("queue_full", "draining", "rate_limited", "unauthenticated", "forbidden"):
            self._rejected.labels(reason)  # a rule on a rate needs the series before its first event
        for reason in ("died", "stuck", "memory"):
            self._restarts.labels(reason)
        self.requests = self.failures = self.rejections = self.disconnects = 0
        self.in_flight = 0
        self._cache_counts = {"response": [0, 0], "feature": [0, 0]}
        self._recent: dict[str, deque[float]] = {}
        self._done: dict[str, int] = {}
        if process_metrics:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)

    def watch_pool(self, status: Callable[[], PoolStatus], is_ready: Callable[[], bool]) -> None:
        """Adds what the pool tells when it is asked, at every scrape."""
        self.registry.register(_PoolCollector(status, is_ready))

    def watch_cache(self, used_bytes: Callable[[], int], limit_bytes: int) -> None:
        """Adds the size of the response cache."""
        Gauge(f"{_PREFIX}_cache_bytes", "Bytes in the response cache", registry=self.registry).set_function(used_bytes)
        Gauge(f"{_PREFIX}_cache_limit_bytes", "Bytes it may hold", registry=self.registry).set(limit_bytes)

    def watch_redis(self, status: Callable[[], Iterable[RedisStatus]]) -> None:
        """Adds whether Redis answers, for each use that it has."""
        self.registry.register(_RedisCollector(status))

    def request_started(self) -> None:
        self.in_flight += 1
        self._in_flight.set(self.in_flight)

    def request_finished(self, *, method: str, endpoint: str, status: int, seconds: float) -> None:
        self.in_flight -= 1
        self._in_flight.set(self.in_flight)
        self.requests += 1
        self._requests.labels(method, endpoint, str(status)).inc()
        self._request_seconds.labels(endpoint).observe(seconds)

    def request_failed(self, name: str, reason_of_rejection: str | None) -> None:
        """Counts a problem by its name; with a reason, also as turned away."""
        self.failures += 1
        self._errors.labels(name).inc()
        if reason_of_rejection is not None:
            self.rejections += 1
            self._rejected.labels(reason_of_rejection).inc()

    def client_left(self) -> None:
        self.disconnects += 1
        self._disconnects.inc()

    def cache_hit(self, cache: str, backend: str, count: int = 1) -> None:
        self._cache_counts[cache][0] += count
        self._cache_hits.labels(cache, backend).inc(count)

    def cache_miss(self, cache: str, count: int = 1) -> None:
        self._cache_counts[cache][1] += count
        self._cache_misses.labels(cache).inc(count)

    def cache_asked(self, source: Source) -> None:
        """Counts a question to the response cache; an answer that another request worked out is a hit in memory."""
        if source == "computed":
            self.cache_miss("response")
        else:
            self.cache_hit("response", "redis" if source == "redis" else "memory")

    # What a PoolObserver is told.

    def job_started(self, task: Task, queue_seconds: float, batch_size: int) -> None:
        self._queue_seconds.labels(task).observe(queue_seconds)
        self._batch_size.labels(task).observe(batch_size)

    def job_finished(self, task: Task, inference_seconds: float, value: Mapping[str, Any]) -> None:
        self._inference_seconds.labels(task).observe(inference_seconds)
        self._done[task] = self._done.get(task, 0) + 1
        self._recent.setdefault(task, deque(maxlen=_RECENT)).append(inference_seconds)
        confidence = value.get("confidence")  # an embedding has none, nor has a page without text
        if confidence is not None:
            self._confidence.labels(task).observe(confidence)

    def job_failed(self, task: Task, error: BaseException) -> None:
        """The request counts it: a job that is tried again has not failed its request."""

    def worker_restarted(self, reason: RestartReason) -> None:
        self._restarts.labels(reason).inc()

    def feature_cache(self, hits: int, misses: int) -> None:
        self.cache_hit("feature", "memory", hits)
        self.cache_miss("feature", misses)

    def queue_changed(self, length: int) -> None:
        """The length is asked for at a scrape."""

    def recent_tasks(self) -> dict[str, dict[str, float | int]]:
        """For each task: how many were done, and quantiles of the last 512 in milliseconds."""
        return {
            task: {
                "count": self._done[task],
                "p50_milliseconds": 1000 * statistics.median(recent),
                "p95_milliseconds": 1000 * sorted(recent)[ceil(0.95 * len(recent)) - 1],
            }
            for task, recent in sorted(self._recent.items())
        }

    def cache_counts(self) -> dict[str, dict[str, int]]:
        """Hits and misses of each cache."""
        return {name: {"hits": hits, "misses": misses} for name, (hits, misses) in self._cache_counts.items()}


class _RedisCollector(Collector):
    """Without Redis there is no series: an alert on 0 must not fire where nothing was ever there."""

    def __init__(self, status: Callable[[], Iterable[RedisStatus]]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        found = GaugeMetricFamily(f"{_PREFIX}_backend_up", "1 where a back end answers", labels=["backend", "use"])
        for status in self._status():
            found.add_metric(["redis", status.use], int(status.is_up))
        yield found


class _PoolCollector(Collector):
    """Asks the pool when Prometheus asks: a gauge that is set by events can miss one."""

    def __init__(self, status: Callable[[], PoolStatus], is_ready: Callable[[], bool]) -> None:
        self._status = status
        self._is_ready = is_ready

    def collect(self) -> Iterable[Metric]:
        status = self._status()
        yield GaugeMetricFamily(
            f"{_PREFIX}_inference_queue_length", "Requests that wait for a worker", value=status.queue_length
        )
        yield GaugeMetricFamily(
            "inference_queue_length", f"The same as {_PREFIX}_inference_queue_length", value=status.queue_length
        )
        yield GaugeMetricFamily(f"{_PREFIX}_ready", "1 where requests are welcome", value=int(self._is_ready()))
        states = GaugeMetricFamily(f"{_PREFIX}_workers", "Workers by state", labels=["state"])
        resident = GaugeMetricFamily(
            f"{_PREFIX}_worker_resident_bytes", "Memory of a worker, shared pages included", labels=["worker"]
        )
        for state in ("starting", "ready", "busy", "dead"):
            states.add_metric([state], sum(worker.state == state for worker in status.workers))
        for index, worker in enumerate(status.workers):
            resident.add_metric([str(index)], worker.resident_bytes)
        yield states
        yield resident
        info = GaugeMetricFamily(
            f"{_PREFIX}_info", "What is served", labels=["model", "model_version", "version", "isa"]
        )
        if status.model is not None:
            info.add_metric([status.model.name, status.model.sha256, __version__, status.isa], 1)
        yield info
