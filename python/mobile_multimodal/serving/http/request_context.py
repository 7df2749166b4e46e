"""Gives each request its id, counts, times and logs it, and turns what escapes the app into an answer."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mobile_multimodal.errors import DrainingError
from mobile_multimodal.serving.http.client_connection import ClientGoneError
from mobile_multimodal.serving.http.problems import error_response, name_of, reason_of_rejection
from mobile_multimodal.serving.services import Services
from mobile_multimodal.serving.telemetry.logging import bound_to_request

_log = logging.getLogger("mobile_multimodal.serving.access")
_failure_log = logging.getLogger("mobile_multimodal.serving")

_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{8,128}")  # it goes into logs and headers
_KNOWN_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNKNOWN: Final = "other"  # one series for all addresses and methods that are not ours


class RequestContext:
    """Middleware around everything: what leaves it has a request's id and is counted."""

    def __init__(self, app: ASGIApp, *, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = _request_id(Headers(scope=scope))
        state["started_at"] = started = time.perf_counter()
        metrics = self._services.metrics
        metrics.request_started()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if self._services.is_draining:
                    headers["connection"] = "close"  # the next request of this client finds another server
            await send(message)

        try:
            with bound_to_request(request_id):
                await self._app(scope, receive, send_with_id)
        except ClientGoneError:
            pass  # nobody is there to be answered
        except ClientDisconnect:
            metrics.client_left()  # before its request was whole
        except asyncio.CancelledError:
            if not self._services.is_draining or status:
                raise
            error = DrainingError("the server stopped before the request was done", "send it again")
            await error_response(error, scope)(scope, receive, send_with_id)
        except Exception as error:
            with bound_to_request(request_id):
                _failure_log.error("a request failed", exc_info=error)
            if status:  # half an answer is out: cutting the connection is all that tells the client
                raise
            await error_response(error, scope)(scope, receive, send_with_id)
        finally:
            self._finish(scope, status, time.perf_counter() - started)

    def _finish(self, scope: Scope, status: int, seconds: float) -> None:
        state = scope["state"]
        error = state.get("error")
        if error is not None:
            self._services.metrics.request_failed(name_of(error), reason_of_rejection(error))
        endpoint = getattr(scope.get("route"), "path", _UNKNOWN)
        method = scope["method"] if scope["method"] in _KNOWN_METHODS else _UNKNOWN
        self._services.metrics.request_finished(method=method, endpoint=endpoint, status=status or 499, seconds=seconds)
        line: dict[str, Any] = {
            "method": method,
            "endpoint": endpoint,
            "status": status or 499,
            "milliseconds": round(1000 * seconds, 2),
            **state.get("log", {}),
        }
        if error is not None:
            line["problem"] = name_of(error)
        with bound_to_request(state["request_id"]):
            # Probes come every few seconds, and tell something when they fail.
            is_routine = endpoint.startswith("/health") and status == 200
            _log.log(logging.DEBUG if is_routine else logging.INFO, "request", extra=line)


def _request_id(headers: Headers) -> str:
    """The id that the client sent, where it is harmless; else a new one."""
    sent = headers.get("x-request-id", "")
    return sent if _SANE_ID.fullmatch(sent) else uuid.uuid4().hex
