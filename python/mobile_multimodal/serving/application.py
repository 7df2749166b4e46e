"""Makes the app: routes, middleware and what they share; any ASGI server, or a replica of a larger engine, runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mobile_multimodal.errors import MobileMultiModalError, UnsupportedError
from mobile_multimodal.serving.access.access_control import AccessControl
from mobile_multimodal.serving.access.authentication import Authenticator
from mobile_multimodal.serving.access.rate_limits import RateLimiter
from mobile_multimodal.serving.cache.response_cache import ResponseCache
from mobile_multimodal.serving.configuration.settings import ServeSettings
from mobile_multimodal.serving.documentation import openapi_of
from mobile_multimodal.serving.http.body_limits import BodyLimits
from mobile_multimodal.serving.http.problems import HttpError, MethodNotAllowedError, RouteNotFoundError, error_response
from mobile_multimodal.serving.http.request_context import RequestContext
from mobile_multimodal.serving.http.security_headers import SecurityHeaders
from mobile_multimodal.serving.model_facts import facts_of_model
from mobile_multimodal.serving.pictures.picture_fetch import PictureFetch
from mobile_multimodal.serving.routes import chat, embeddings, health, models, search, stats, tasks
from mobile_multimodal.serving.routes.page import find_page, page_routes
from mobile_multimodal.serving.routes.reference import reference_routes
from mobile_multimodal.serving.search_index import SearchIndex
from mobile_multimodal.serving.services import Services
from mobile_multimodal.serving.telemetry.metrics import ServerMetrics
from mobile_multimodal.serving.telemetry.tracing import TraceRequests, make_tracing
from mobile_multimodal.serving.workers.worker_pool import WorkerPool


class Application(FastAPI):
    """FastAPI with a document of our own."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            services: Services = self.state.services
            self.openapi_schema = openapi_of(self, needs_access=services.settings.needs_access)
        return self.openapi_schema


def create_app(settings: ServeSettings) -> FastAPI:
    """The whole service as an ASGI app. Its lifespan starts the workers and ends them; nothing is kept outside of it.

    Raises what opening the model raises: ModelNotFoundError, ModelFormatError.
    """
    metrics = ServerMetrics(queue_limit=settings.queue_length)
    services = Services(
        settings=settings,
        metrics=metrics,
        pool=WorkerPool(settings.pool_settings(), metrics),
        facts=facts_of_model(settings.model),
        authenticator=Authenticator(settings.authentication),
        limiter=RateLimiter(settings.limits),
        tracing=make_tracing(settings.tracing),
        fetch=PictureFetch(settings.fetch) if settings.fetch.is_enabled else None,
        stop_seconds=settings.drain_timeout_seconds,
    )
    metrics.watch_pool(services.pool.status, lambda: services.is_ready)
    metrics.watch_cache(services.cache_bytes, settings.cache.memory_bytes)
    metrics.watch_redis(services.redis_status)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if settings.index is not None:
            services.search = SearchIndex(settings.index, services.facts.embedding)
        try:
            await services.pool.start()
            services.cache = ResponseCache(settings.cache, model_version=services.model.sha256)
            yield
        finally:
            await services.pool.stop(drain_seconds=services.stop_seconds)
            if services.cache is not None:
                await services.cache.close()
            await services.limiter.close()
            await services.authenticator.close()
            await services.tracing.close()
            if services.search is not None:
                services.search.close()

    app = Application(lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.services = services
    for router in (tasks.router, chat.router, embeddings.router, models.router, search.router):
        app.include_router(router)
    app.include_router(stats.router)
    app.include_router(health.router)
    if settings.page:
        app.router.routes.extend(_page_routes())
    if settings.docs:
        app.router.routes.extend(reference_routes())
    app.add_exception_handler(MobileMultiModalError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    # The last one added is the outermost.
    app.add_middleware(AccessControl, services=services)
    app.add_middleware(
        BodyLimits,
        max_bytes=settings.max_body_bytes,
        max_buffered_bytes=settings.max_buffered_bytes,
        timeout_seconds=settings.body_timeout_seconds,
    )
    app.add_middleware(RequestContext, services=services)
    app.add_middleware(TraceRequests, tracing=services.tracing)
    app.add_middleware(SecurityHeaders, settings=settings.security_settings())
    return app


def _page_routes() -> list[Any]:
    folder = find_page()
    if folder is None:
        raise UnsupportedError("this installation has no page to serve", "start with --no-page")
    return list(page_routes(folder))


async def _answer_error(request: Request, error: Exception) -> Response:
    return error_response(error, request.scope)


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette itself answers: no such address, or not this method."""
    if not isinstance(error, HTTPException):
        raise error
    path = request.url.path[:200]
    found: MobileMultiModalError
    if error.status_code == 405:
        found = MethodNotAllowedError(
            f"{path} does not take {request.method[:20]}", f"use {(error.headers or {}).get('Allow', 'another method')}"
        )
    elif error.status_code == 404:
        found = RouteNotFoundError(f"there is no {path!r} on this server", "the addresses are in /openapi.json")
    else:
        found = HttpError(str(error.detail), "check the request")
    return error_response(found, request.scope, error.headers)
