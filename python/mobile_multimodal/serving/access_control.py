"""Lets a request of the API in: addressed to this server, from a known caller, not too often."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mobile_multimodal.errors import MobileMultiModalError
from mobile_multimodal.serving.problems import MisdirectedRequestError, error_response
from mobile_multimodal.serving.services import Services

_PROTECTED: Final = "/v1/"  # health and the page are for everybody who reaches the server
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class AccessControl:
    """Middleware: 421 for another server's name, 401, 403 and 429; a refused body is not read."""

    def __init__(self, app: ASGIApp, *, services: Services) -> None:
        self._app = app
        self._services = services
        settings = services.settings
        self._names = frozenset(name.lower() for name in settings.allowed_hosts)
        if not self._names and settings.is_loopback and not settings.needs_access:
            # A web page anywhere may point its own name at 127.0.0.1 and then read what a server without keys answers
            # (DNS rebinding); it cannot choose the Host header.
            self._names = _LOOPBACK_NAMES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check_name(Headers(scope=scope).get("host", ""))
            fields = await self._admit(scope) if scope["path"].startswith(_PROTECTED) else {}
        except MobileMultiModalError as error:
            await error_response(error, scope)(scope, receive, send)
            return
        if not fields:
            await self._app(scope, receive, send)
            return

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, send_with_fields)

    async def _admit(self, scope: Scope) -> dict[str, str]:
        """The header fields that belong on the answer, such as what is left of a limit."""
        return {}

    def _check_name(self, host: str) -> None:
        if not self._names or "*" in self._names:
            return
        name = host.lower()
        if ":" in name and not name.endswith("]"):
            name = name.rpartition(":")[0]
        if name not in self._names:
            raise MisdirectedRequestError(
                f"the request is addressed to {host[:80]!r}, which is not a name of this server",
                "an operator adds names with --allowed-hosts",
            )
