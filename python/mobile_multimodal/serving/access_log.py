"""Gives every request an id, binds it to what is logged meanwhile, and logs one line when the answer is out."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Iterable
from typing import Final

import structlog

from mobile_multimodal.serving.asgi import Application, Message, Receive, Scope, Send

_log = structlog.stdlib.get_logger("mobile_multimodal.access")

_SANE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_QUIET_ROUTES: Final = ("/health", "/metrics")  # asked every few seconds by machines: logged on the level debug
CLIENT_GONE: Final = 499  # as proxies log a client that closed before the answer


def request_id_from(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The request's own X-Request-Id if it has one that is short and plain, or else a new one."""
    given = [value for name, value in headers if name.lower() == b"x-request-id"]
    if len(given) == 1 and _SANE_ID.fullmatch(text := given[0].decode("latin-1")):
        return text
    return uuid.uuid4().hex


def route_of(scope: Scope) -> str:
    """The template of the route that answers, such as /v1/search/thumbnails/{id}; "other" where there is none.

    Known after the router has run. What clients write in a path stays out of logs and metrics this way.
    """
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "other"


class AccessLog:
    """ASGI middleware. Sets scope["state"]["request_id"], and reads scope["state"]["caller"] (a Caller) at the end."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and logs it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_from(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status, received, sent, is_complete = 0, 0, 0, False

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def counting_send(message: Message) -> None:
            nonlocal status, sent, is_complete
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [field for field in message.get("headers", ()) if field[0].lower() != b"x-request-id"]
                message["headers"] = [*headers, (b"x-request-id", request_id.encode())]
            await send(message)
            if message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
                is_complete = not message.get("more_body", False)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            failure: str | None = None
            try:
                await self._app(scope, counting_receive, counting_send)
            except asyncio.CancelledError:
                failure = "cancelled"
                raise
            except Exception as error:
                failure = type(error).__name__
                status = status or 500
                raise
            finally:
                route = route_of(scope)
                quiet = route.startswith(_QUIET_ROUTES) and 0 < status < 400
                (_log.debug if quiet else _log.info)(
                    "request",
                    method=scope["method"],
                    route=route,
                    status=status or CLIENT_GONE,
                    duration_milliseconds=round((time.perf_counter() - started) * 1000, 3),
                    caller=getattr(scope["state"].get("caller"), "name", None),
                    bytes_received=received,
                    bytes_sent=sent,
                    **({} if is_complete else {"is_complete": False}),
                    **({"failure": failure} if failure else {}),
                )
