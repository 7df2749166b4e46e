"""Holds what the routes of one app share; two apps share nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request

from mobile_multimodal.errors import UnavailableError
from mobile_multimodal.serving.access.authentication import Authenticator
from mobile_multimodal.serving.access.rate_limits import RateLimiter
from mobile_multimodal.serving.cache.redis_guard import RedisStatus
from mobile_multimodal.serving.cache.response_cache import ResponseCache
from mobile_multimodal.serving.configuration.settings import ServeSettings
from mobile_multimodal.serving.model_facts import ModelFacts
from mobile_multimodal.serving.pictures.picture_fetch import PictureFetch
from mobile_multimodal.serving.telemetry.metrics import ServerMetrics
from mobile_multimodal.serving.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from mobile_multimodal.serving.search_index import SearchIndex
    from mobile_multimodal.serving.workers.pool_status import ModelIdentity
    from mobile_multimodal.serving.workers.worker_pool import WorkerPool


@dataclass(kw_only=True)
class Services:
    """One app's pool, counters and back ends.

    is_draining   the server is leaving: not ready, and every answer asks its connection to close
    fetch         gets pictures that are named by https URLs; None where none is allowed
    cache         made when the model is known: its answers are no other one's
    stop_seconds  how long the pool finishes jobs when the app ends; a server that drained before needs none
    """

    settings: ServeSettings
    metrics: ServerMetrics
    pool: WorkerPool
    facts: ModelFacts
    authenticator: Authenticator
    limiter: RateLimiter
    tracing: Tracing
    fetch: PictureFetch | None = None
    cache: ResponseCache | None = None
    search: SearchIndex | None = None
    is_draining: bool = False
    stop_seconds: float = 0.0
    started_at: float = field(default_factory=time.monotonic)
    _model: ModelIdentity | None = None

    @property
    def model(self) -> ModelIdentity:
        """The model that answers; UnavailableError until the first worker has opened it."""
        if self._model is None:
            self._model = self.pool.status().model
        if self._model is None:
            raise UnavailableError("the server is still starting", "try again in a moment")
        return self._model

    @property
    def worker_count(self) -> int:
        """How many jobs can run at one time."""
        return self.settings.pool_settings().worker_count

    @property
    def is_ready(self) -> bool:
        """Whether a load balancer should send requests here."""
        return not self.is_draining and self.pool.status().is_ready

    def back_end_checks(self) -> dict[str, Any]:
        """The state of what is useful and not needed: a cache that is down fails no request."""
        return {f"redis_for_{status.use}": "ok" if status.is_up else "unavailable" for status in self.redis_status()}

    def redis_status(self) -> list[RedisStatus]:
        """The state of Redis for each use that it has here."""
        found = [self.limiter.redis_status(), None if self.cache is None else self.cache.status().redis]
        return [status for status in found if status is not None]

    def cache_bytes(self) -> int:
        """What the answers in memory take."""
        return 0 if self.cache is None else self.cache.status().memory_bytes


def services_of(request: Request) -> Services:
    """The services of the app that a request came to."""
    return cast(Services, request.app.state.services)
