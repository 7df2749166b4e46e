"""Bounds what a body may weigh and how long it may take, while it arrives: nothing is read that will not be used."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mobile_multimodal.errors import QueueFullError
from mobile_multimodal.serving.http.problems import BodyTimeoutError, BodyTooLargeError, error_response

# After an answer that came before the body's end the rest is thrown away for a moment: a connection closed with bytes
# unread is reset, and the client would see that instead of the answer.
_LINGER_SECONDS: Final = 2.0


class BodyLimits:
    """Middleware: 413 for a body too large, 408 for one too slow, 503 while too much is in memory."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_buffered_bytes: int, timeout_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_buffered_bytes = max_buffered_bytes
        self._timeout_seconds = timeout_seconds
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on with its body under watch."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = headers.get("content-length")
        if not (declared or headers.get("transfer-encoding")):
            await self._app(scope, receive, send)
            return
        body = _Body(self, receive, send)
        try:
            if declared is not None and declared.isdecimal() and int(declared) > self._max_bytes:
                await error_response(self.too_large(f"{declared} bytes"), scope)(scope, receive, body.send)
            else:
                await self._app(scope, body.receive, body.send)
        finally:
            self._buffered_bytes -= body.received_bytes

    @property
    def timeout_seconds(self) -> float:
        """How long a body may take."""
        return self._timeout_seconds

    def take(self, received_bytes: int, added_bytes: int) -> None:
        """Counts bytes of a request that have arrived; raises when they are too many."""
        self._buffered_bytes += added_bytes
        if received_bytes > self._max_bytes:
            raise self.too_large(f"more than {self._max_bytes} bytes")
        if self._buffered_bytes > self._max_buffered_bytes:
            raise QueueFullError("the server holds as many large requests as it has room for", "try again later")

    def too_large(self, size: str) -> BodyTooLargeError:
        """The error for a body of this size."""
        return BodyTooLargeError(
            f"the body has {size}, expected at most {self._max_bytes}",
            "send the picture smaller or as JPEG, or upload it as multipart/form-data: base64 adds a third",
        )


class _Body:
    """The body of one request as it arrives."""

    def __init__(self, limits: BodyLimits, receive: Receive, send: Send) -> None:
        self._limits = limits
        self._receive = receive
        self._send = send
        self._is_complete = False
        self._ends_at = 0.0
        self.received_bytes = 0

    async def receive(self) -> Message:
        """The next piece; when the body is complete, what follows it."""
        if self._is_complete:
            return await self._receive()
        now = time.monotonic()
        self._ends_at = self._ends_at or now + self._limits.timeout_seconds
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._ends_at - now))
        except asyncio.TimeoutError:
            raise BodyTimeoutError(
                f"the body did not arrive within {self._limits.timeout_seconds:g} s; {self.received_bytes} bytes did",
                "send it faster, or make the picture smaller",
            ) from None
        if message["type"] == "http.disconnect":
            self._is_complete = True
            return message
        piece = len(message.get("body", b""))
        self.received_bytes += piece
        self._is_complete = not message.get("more_body", False)
        self._limits.take(self.received_bytes, piece)
        return message

    async def send(self, message: Message) -> None:
        """Passes an answer on; one that comes before the body's end closes the connection behind it."""
        if self._is_complete:
            await self._send(message)
        elif message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message["headers"] if name.lower() != b"connection"]
            await self._send({**message, "headers": [*kept, (b"connection", b"close")]})
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._throw_away_rest()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _throw_away_rest(self) -> None:
        ends_at = time.monotonic() + _LINGER_SECONDS
        while (left := ends_at - time.monotonic()) > 0:
            try:
                message = await asyncio.wait_for(self._receive(), left)
            except asyncio.TimeoutError:
                return
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return
