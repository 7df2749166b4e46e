"""Sends a trace of each request, its wait and its inference to an OpenTelemetry collector, if one is named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import structlog
from pydantic import AfterValidator, Field, SecretStr

from mobile_multimodal.errors import MissingExtraError
from mobile_multimodal.serving.configuration.policy_settings import PolicySettings
from mobile_multimodal.serving.http.asgi import Application, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

_KNOWN_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_QUIET_PATHS: Final = ("/health", "/metrics")  # a load balancer asks every few seconds: nobody looks for these


def _check_endpoint(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ValueError("expected an http or https URL such as http://127.0.0.1:4318/v1/traces, without a password")
    return endpoint


class TracingSettings(PolicySettings):
    """Where traces go.

    endpoint         the collector's address for traces by OTLP over HTTP; None traces nothing and imports nothing
    header_fields    sent along, for instance a key of the collector's operator
    service_name     what the service is called there
    sample_ratio     the share of requests that are traced
    timeout_seconds  for one delivery, in the background
    """

    endpoint: Annotated[str, AfterValidator(_check_endpoint)] | None = None
    header_fields: Mapping[str, SecretStr] = Field(default_factory=dict)
    service_name: str = Field(default="mobile-mm", min_length=1, max_length=128)
    sample_ratio: float = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)
    timeout_seconds: float = Field(default=5.0, gt=0, le=60, allow_inf_nan=False)


class Tracing:
    """Traces nothing: what a server has that was given no endpoint."""

    is_enabled: bool = False

    def record_job(
        self, *, task: str, queue_seconds: float, inference_seconds: float, batch_size: int, worker: int
    ) -> None:
        """Adds two spans that end now to the request under way: the wait in the queue, and the inference after it."""

    async def close(self) -> None:
        """Delivers what is left, within about `timeout_seconds`."""


def make_tracing(settings: TracingSettings, exporter: SpanExporter | None = None) -> Tracing:
    """Tracing as the settings say; `exporter` takes the spans instead of the endpoint.

    MissingExtraError when the packages of the extra `trace` are needed and not there.
    """
    if settings.endpoint is None and exporter is None:
        return Tracing()
    try:
        return _OpenTelemetry(settings, exporter)
    except ImportError as error:
        raise MissingExtraError(
            f"traces need the package {error.name or 'opentelemetry'}, which is not installed",
            "pip install 'mobile-multimodal[trace]', or leave the endpoint out",
        ) from error


class TraceRequests:
    """ASGI middleware: one span a request, a child of the client's own if it sent a `traceparent` (W3C Trace Context).

    To be outside of what logs the request, so that its line has the trace_id. The span is named by method and route and
    holds no path, no query, no header field and no words of an error: all of these may be secret or endless.
    """

    def __init__(self, app: Application, *, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on within its span."""
        tracing = self._tracing
        if scope["type"] != "http" or not isinstance(tracing, _OpenTelemetry) or scope["path"].startswith(_QUIET_PATHS):
            await self._app(scope, receive, send)
            return
        status = 0

        async def watching_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with tracing.request_span(scope) as span:
            trace_id = f"{span.get_span_context().trace_id:032x}"
            failure = ""
            try:
                with structlog.contextvars.bound_contextvars(trace_id=trace_id):
                    await self._app(scope, receive, watching_send)
            except BaseException as error:
                failure = type(error).__name__
                raise
            finally:
                tracing.describe(span, scope, status, failure)


class _OpenTelemetry(Tracing):
    is_enabled = True

    def __init__(self, settings: TracingSettings, exporter: SpanExporter | None) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        ratio = TraceIdRatioBased(settings.sample_ratio)
        # A parent elsewhere does not raise the share: any client could then have all its requests traced.
        self._provider: TracerProvider = TracerProvider(
            resource=Resource.create({"service.name": settings.service_name}),
            sampler=ParentBased(root=ratio, remote_parent_sampled=ratio),
        )
        self._timeout_seconds = settings.timeout_seconds
        self._exporter: SpanExporter = exporter or _otlp_exporter(settings)
        self._provider.add_span_processor(
            SimpleSpanProcessor(exporter) if exporter is not None else BatchSpanProcessor(self._exporter)
        )
        self._tracer = self._provider.get_tracer("mobile_multimodal.serving")
        self._propagator = TraceContextTextMapPropagator()

    def request_span(self, scope: Scope) -> Any:
        """A context manager: the span of a request, current within."""
        from opentelemetry.trace import SpanKind

        fields: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            if name in (b"traceparent", b"tracestate"):
                fields.setdefault(name.decode(), []).append(value.decode("latin-1"))
        carrier = {name: ",".join(values) for name, values in fields.items()}  # two traceparents make none
        return self._tracer.start_as_current_span(
            _method(scope),
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        )

    def describe(self, span: Span, scope: Scope, status: int, failure: str) -> None:
        """Fills in what is known once the router has run and the answer is out."""
        from opentelemetry.trace import StatusCode

        method = _method(scope)
        route = getattr(scope.get("route"), "path", None)
        span.update_name(f"{method} {route}" if isinstance(route, str) else method)
        span.set_attribute("http.request.method", method)
        span.set_attribute("url.scheme", scope.get("scheme", "http"))
        if isinstance(route, str):
            span.set_attribute("http.route", route)
        if status:
            span.set_attribute("http.response.status_code", status)
        request_id = scope.get("state", {}).get("request_id")
        if isinstance(request_id, str):
            span.set_attribute("mobile_mm.request_id", request_id)
        if failure or status >= 500:
            span.set_attribute("error.type", failure or str(status))
            span.set_status(StatusCode.ERROR)

    def record_job(
        self, *, task: str, queue_seconds: float, inference_seconds: float, batch_size: int, worker: int
    ) -> None:
        end = time.time_ns()
        started = end - int(inference_seconds * 1e9)
        queued = started - int(queue_seconds * 1e9)
        wait = self._tracer.start_span("queue", start_time=queued, attributes={"mobile_mm.task": task})
        wait.end(end_time=started)
        attributes: dict[str, str | int] = {
            "mobile_mm.task": task,
            "mobile_mm.batch_size": batch_size,
            "mobile_mm.worker": worker,
        }
        inference = self._tracer.start_span(f"inference {task}", start_time=started, attributes=attributes)
        inference.end(end_time=end)

    async def close(self) -> None:
        delivery = asyncio.ensure_future(asyncio.to_thread(self._provider.shutdown))
        await asyncio.wait({delivery}, timeout=self._timeout_seconds)
        if not delivery.done():
            # A collector that is down would cost that time once for each of four batches.
            await asyncio.to_thread(self._exporter.shutdown)
        await delivery


def _otlp_exporter(settings: TracingSettings) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(
        endpoint=settings.endpoint,
        headers={name: value.get_secret_value() for name, value in settings.header_fields.items()},
        timeout=settings.timeout_seconds,
    )


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in _KNOWN_METHODS else "OTHER"
