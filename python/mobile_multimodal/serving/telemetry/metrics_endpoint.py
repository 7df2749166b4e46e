"""Answers Prometheus on a port of its own: what is counted is not for everybody who may ask for a caption."""

from __future__ import annotations

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send


def metrics_app(registry: CollectorRegistry) -> ASGIApp:
    """An app with the one address /metrics."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        response: Response
        if scope["path"] != "/metrics":
            response = PlainTextResponse("metrics are at /metrics\n", status_code=404)
        elif scope["method"] not in ("GET", "HEAD"):
            response = PlainTextResponse("metrics are read with GET\n", status_code=405, headers={"allow": "GET, HEAD"})
        else:
            encode, content_type = choose_encoder(Headers(scope=scope).get("accept", ""))
            response = Response(encode(registry), headers={"content-type": content_type})
        await response(scope, receive, send)

    return app
