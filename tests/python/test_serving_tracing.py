"""Requests leave traces that join those of their clients, say nothing secret, and cost nothing when turned off."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra trace")
pytest.importorskip("structlog", reason="needs the extra serve")

import structlog
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError

from mobile_multimodal.errors import MissingExtraError
from mobile_multimodal.serving.http.asgi import Application, Message, Receive, Scope, Send
from mobile_multimodal.serving.telemetry.tracing import TraceRequests, Tracing, TracingSettings, make_tracing

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "correct-horse"


class Traced:
    """An application under the middleware, and the spans that it left."""

    def __init__(self, app: Callable[[Tracing, Scope, Send], Awaitable[None]], **settings: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = make_tracing(TracingSettings(**settings), self._exporter)
        self._app = app

    def ask(self, *headers: tuple[str, str], path: str = f"/v1/caption/{SECRET}", method: str = "POST") -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await self._app(self.tracing, scope, send)

        fields = [(name.encode(), value.encode()) for name, value in headers]
        asyncio.run(call(TraceRequests(app, tracing=self.tracing), fields, path, method))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()


async def call(app: Application, headers: list[tuple[bytes, bytes]], path: str, method: str = "POST") -> None:
    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        return None

    query = f"token={SECRET}".encode()
    await app(
        {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers, "state": {}},
        receive,
        send,
    )


async def answering(tracing: Tracing, scope: Scope, send: Send) -> None:
    scope["route"] = SimpleNamespace(path="/v1/caption/{name}")
    scope["state"]["request_id"] = "request-1"
    tracing.record_job(task="caption", queue_seconds=0.25, inference_seconds=0.5, batch_size=3, worker=1)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_request_is_a_span_with_its_wait_and_its_inference_below() -> None:
    traced = Traced(answering, service_name="captions")
    traced.ask(("authorization", f"Bearer {SECRET}"))
    wait, inference, request = traced.spans
    assert (wait.name, inference.name, request.name) == ("queue", "inference caption", "POST /v1/caption/{name}")
    assert request.parent is None
    for span in (wait, inference):
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
        assert span.context.trace_id == request.context.trace_id
    assert wait.end_time == inference.start_time
    assert inference.end_time - inference.start_time == 500_000_000
    assert wait.end_time - wait.start_time == 250_000_000
    assert dict(inference.attributes) == {
        "mobile_mm.task": "caption",
        "mobile_mm.batch_size": 3,
        "mobile_mm.worker": 1,
    }
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.route": "/v1/caption/{name}",
        "http.response.status_code": 200,
        "mobile_mm.request_id": "request-1",
    }
    assert request.resource.attributes["service.name"] == "captions"
    assert request.status.is_unset
    assert SECRET not in "".join(span.to_json() for span in traced.spans)


def test_the_span_joins_the_clients_trace() -> None:
    traced = Traced(answering)
    traced.ask(("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"), ("tracestate", "vendor=value"))
    for span in traced.spans:
        assert f"{span.context.trace_id:032x}" == TRACE_ID
    request = traced.spans[-1]
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT_ID
    assert request.context.trace_state.get("vendor") == "value"


@pytest.mark.parametrize(
    "headers",
    [
        (("traceparent", "nonsense"),),
        (("traceparent", f"00-{'0' * 32}-{PARENT_ID}-01"),),
        (("traceparent", f"00-{TRACE_ID}-{'0' * 16}-01"),),
        (("traceparent", f"ff-{TRACE_ID}-{PARENT_ID}-01"),),
        (("traceparent", "x" * 100_000),),
        (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"), ("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01")),
        (("traceparent", ""),),
    ],
)
def test_a_wrong_traceparent_starts_a_trace_of_its_own(headers: tuple[tuple[str, str], ...]) -> None:
    traced = Traced(answering)
    traced.ask(*headers)
    assert traced.spans[-1].parent is None
    assert f"{traced.spans[-1].context.trace_id:032x}" != TRACE_ID


def test_a_client_can_turn_its_trace_off_but_cannot_have_more_traced_than_was_chosen() -> None:
    off = Traced(answering)
    off.ask(("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-00"))
    assert not off.spans
    none = Traced(answering, sample_ratio=0.0)
    none.ask()
    none.ask(("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"))
    assert not none.spans


def test_an_error_is_named_by_its_kind_alone() -> None:
    async def failing(tracing: Tracing, scope: Scope, send: Send) -> None:
        raise RuntimeError(SECRET)

    async def refusing(tracing: Tracing, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": []})

    async def not_found(tracing: Tracing, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})

    failed = Traced(failing)
    with pytest.raises(RuntimeError):
        failed.ask()
    for traced, kind in ((failed, "RuntimeError"), (Traced(refusing), "503")):
        if not traced.spans:
            traced.ask(method="BREW")
        (span,) = traced.spans
        assert span.attributes is not None
        assert span.attributes["error.type"] == kind
        assert not span.status.is_ok
        assert not span.status.is_unset
        assert not span.events
        assert SECRET not in span.to_json()
    missing = Traced(not_found)
    missing.ask(method="BREW")
    (span,) = missing.spans
    assert span.name == "OTHER"
    assert span.status.is_unset


def test_what_is_logged_meanwhile_has_the_trace_id() -> None:
    seen: list[Any] = []

    async def logging_app(tracing: Tracing, scope: Scope, send: Send) -> None:
        seen.append(structlog.contextvars.get_contextvars().get("trace_id"))

    Traced(logging_app).ask(("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"))
    assert seen == [TRACE_ID]
    assert "trace_id" not in structlog.contextvars.get_contextvars()


def test_probes_are_not_traced() -> None:
    traced = Traced(lambda tracing, scope, send: send({"type": "http.response.start", "status": 200}))
    traced.ask(path="/health/ready")
    assert not traced.spans


def test_two_requests_at_once_do_not_mix_up_their_spans() -> None:
    exporter = InMemorySpanExporter()
    tracing = make_tracing(TracingSettings(), exporter)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        await asyncio.create_task(job(scope["path"]))

    async def job(path: str) -> None:
        await asyncio.sleep(0)
        tracing.record_job(task=path, queue_seconds=0, inference_seconds=0, batch_size=1, worker=0)

    async def scenario() -> None:
        middleware = TraceRequests(app, tracing=tracing)
        parents = [f"{number:032x}" for number in range(1, 6)]
        calls = [
            call(middleware, [(b"traceparent", f"00-{parent}-{PARENT_ID}-01".encode())], f"/{parent}")
            for parent in parents
        ]
        await asyncio.gather(*calls)

    asyncio.run(scenario())
    inferences = [span for span in exporter.get_finished_spans() if span.name.startswith("inference")]
    assert len(inferences) == 5
    assert all(span.name == f"inference /{span.context.trace_id:032x}" for span in inferences)


def test_traces_reach_a_collector_by_http() -> None:
    received: list[tuple[str, str, ExportTraceServiceRequest]] = []

    async def collect(request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest()
        body = await request.read()
        message.ParseFromString(body)
        received.append((request.path, request.headers.get("x-key", ""), message))
        return web.Response(body=b"", content_type="application/x-protobuf")

    async def scenario() -> None:
        app = web.Application()
        app.router.add_post("/v1/traces", collect)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
        tracing = make_tracing(
            TracingSettings.model_validate({"endpoint": endpoint, "header_fields": {"x-key": SECRET}})
        )
        assert tracing.is_enabled

        async def app_under_test(scope: Scope, receive: Receive, send: Send) -> None:
            await answering(tracing, scope, send)

        await call(TraceRequests(app_under_test, tracing=tracing), [], "/v1/caption")
        await tracing.close()
        await runner.cleanup()

    asyncio.run(scenario())
    assert {(path, key) for path, key, _ in received} == {("/v1/traces", SECRET)}
    names = [
        span.name
        for _, _, message in received
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert sorted(names) == ["POST /v1/caption/{name}", "inference caption", "queue"]


def test_a_collector_that_is_down_fails_no_request_and_does_not_hold_the_end_up() -> None:
    async def scenario() -> None:
        settings = TracingSettings(endpoint="http://127.0.0.1:1/v1/traces", timeout_seconds=0.1)  # nobody listens there
        tracing = make_tracing(settings)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await answering(tracing, scope, send)

        for _ in range(50):
            await call(TraceRequests(app, tracing=tracing), [], "/v1/caption")
        await tracing.close()

    asyncio.run(scenario())


def test_nothing_is_imported_and_nothing_done_when_off() -> None:
    program = (
        "import asyncio, json, sys\n"
        "from mobile_multimodal.serving.telemetry.tracing import TraceRequests, TracingSettings, make_tracing\n"
        "tracing = make_tracing(TracingSettings())\n"
        "calls = []\n"
        "async def app(scope, receive, send): calls.append(scope)\n"
        "scope = {'type': 'http', 'path': '/', 'method': 'GET', 'headers': []}\n"
        "asyncio.run(TraceRequests(app, tracing=tracing)(scope, None, None))\n"
        "tracing.record_job(task='x', queue_seconds=0, inference_seconds=0, batch_size=1, worker=0)\n"
        "asyncio.run(tracing.close())\n"
        "assert calls == [scope] and not tracing.is_enabled\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('opentelemetry')]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_a_missing_extra_is_named_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtraError, match=r"opentelemetry\.sdk\.trace") as caught:
        make_tracing(TracingSettings(endpoint="http://127.0.0.1:4318/v1/traces"))
    assert "mobile-multimodal[trace]" in caught.value.hint


def test_all_problems_of_the_settings_are_listed_at_once_and_no_key_is_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        TracingSettings.model_validate(
            {"endpoint": f"http://u:{SECRET}@h/", "sample_ratio": 2, "service_name": "", "timeout_seconds": 0, "url": 1}
        )
    assert {error["loc"][0] for error in caught.value.errors()} == {
        "endpoint",
        "sample_ratio",
        "service_name",
        "timeout_seconds",
        "url",
    }
    assert SECRET not in str(caught.value)
    good = TracingSettings.model_validate({"endpoint": "https://c.example/v1/traces", "header_fields": {"k": SECRET}})
    assert SECRET not in repr(good)
