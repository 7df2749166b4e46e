"""Bounds what the app does not see: a header's size and time, a client that does not read, and connections."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from mobile_multimodal.errors import QueueFullError
from mobile_multimodal.serving.configuration.settings import ServeSettings
from mobile_multimodal.serving.http.problems import HttpError, headers_of, problem_of

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application


class MalformedRequestError(HttpError):
    """The request is not HTTP."""


class HeaderTimeoutError(HttpError):
    """The header did not arrive in time."""

    status = 408


class HeaderTooLargeError(HttpError):
    """The header is larger than the server takes."""

    status = 431


def bounded_protocol(settings: ServeSettings) -> type[HttpToolsProtocol]:
    """The protocol of one server. uvicorn makes it itself, so the bounds are in the class."""

    class Bounded(_BoundedProtocol):
        bounds = settings

    return Bounded


class _BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for a header for ever and takes one of any size."""

    bounds: ServeSettings

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._awaits_header = True
        self._header_bytes = 0
        self._messages = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._answered: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.bounds.max_connections:
            self._refuse(QueueFullError("the server has as many connections as it takes", "try again later"))
            return
        self._start_timer()

    def pause_writing(self) -> None:
        """The client does not read: what it leaves lying may not lie here for ever."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.bounds.body_timeout_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._write_timer is not None:
            self._write_timer.cancel()
        # uvicorn tells the request that came last; with several sent ahead, the one being answered is another.
        for cycle in (self._answered, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        awaited_header, messages = self._awaits_header, self._messages
        if awaited_header:
            self._start_timer()
        super().data_received(data)
        # A header that ended in this piece was small enough: a piece has at most 256 KiB.
        if awaited_header and self._awaits_header and self._messages == messages:
            self._header_bytes += len(data)
            if self._header_bytes > self.bounds.max_header_bytes:
                self._refuse(
                    HeaderTooLargeError(
                        f"the header has over {self.bounds.max_header_bytes} bytes", "send fewer or shorter fields"
                    )
                )

    def on_headers_complete(self) -> None:
        self._awaits_header = False
        self._stop_timer()
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._awaits_header = True
        self._header_bytes = 0
        self._messages += 1

    def send_400_response(self, msg: str) -> None:
        """What the parser could not read, in the shape of all errors."""
        self._refuse(MalformedRequestError(msg.rstrip("."), "check what is between client and server"))

    def _start_timer(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.bounds.header_timeout_seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _give_up(self) -> None:
        self._header_timer = None
        seconds = self.bounds.header_timeout_seconds
        self._refuse(HeaderTimeoutError(f"the header did not arrive within {seconds:g} s", "send it at once"))

    def _refuse(self, error: Exception) -> None:
        """Answers without the app, which has not seen a request, and hangs up."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        request_id = uuid.uuid4().hex
        problem = problem_of(error, instance="", request_id=request_id)
        content = json.dumps(problem).encode()
        fields = {
            **headers_of(error),
            "content-type": "application/problem+json",
            "content-length": str(len(content)),
            "connection": "close",
            "x-request-id": request_id,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.transport.write(STATUS_LINE[problem["status"]] + lines.encode() + b"\r\n" + content)
        self.transport.close()
