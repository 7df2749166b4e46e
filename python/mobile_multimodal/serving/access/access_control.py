"""Lets a request of the API in: addressed to this server, from a known caller, not too often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mobile_multimodal.errors import MobileMultiModalError, RateLimitedError
from mobile_multimodal.serving.access.request_origins import RequestOrigins
from mobile_multimodal.serving.http.problems import error_response
from mobile_multimodal.serving.services import Services

_PROTECTED: Final = "/v1/"  # health and the page are for everybody who reaches the server


class _RefusedError(Exception):
    """An error with header fields of its own."""

    def __init__(self, error: RateLimitedError, fields: Mapping[str, str]) -> None:
        super().__init__()
        self.error = error
        self.fields = fields


class AccessControl:
    """Middleware: 401, 403 and 429; a refused body is not read."""

    def __init__(self, app: ASGIApp, *, services: Services) -> None:
        self._app = app
        self._services = services
        self._origins = RequestOrigins(services.settings.origin_settings())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._origins.check(scope["method"], scope["headers"])
            fields = await self._admit(scope) if scope["path"].startswith(_PROTECTED) else {}
        except _RefusedError as refusal:
            await error_response(refusal.error, scope, refusal.fields)(scope, receive, send)
            return
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

    async def _admit(self, scope: Scope) -> Mapping[str, str]:
        """The header fields that belong on the answer: what is left of the caller's limits."""
        peer = scope.get("client")
        caller = await self._services.authenticator.authenticate(scope["headers"], peer[0] if peer else None)
        scope["state"]["log"] = {"caller": caller.name}
        decision = await self._services.limiter.check(caller)
        try:
            decision.raise_if_refused()
        except RateLimitedError as error:
            raise _RefusedError(error, decision.header_fields) from None
        return decision.header_fields
