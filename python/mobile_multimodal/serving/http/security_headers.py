"""Puts the header fields on every answer that keep browsers from doing more with it than was meant."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from mobile_multimodal.serving.configuration.policy_settings import PolicySettings
from mobile_multimodal.serving.http.asgi import Application, Message, Receive, Scope, Send

# The page needs its own scripts, styles and answers, and pictures that it made itself (blob:) or got inline (data:).
# No inline script or style, no other host, no frame around it.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),  # for browsers that do not know frame-ancestors
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"permissions-policy",
        b"camera=(self), microphone=(), geolocation=(), payment=(), usb=(), display-capture=()",
    ),
)
_CROSS_ORIGIN_METHODS: Final = ("GET", "POST")
_CROSS_ORIGIN_REQUEST_FIELDS: Final = "authorization, content-type, traceparent, tracestate, x-api-key, x-request-id"
_CROSS_ORIGIN_ANSWER_FIELDS: Final = "RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
_PREFLIGHT_SECONDS: Final = 600


def _check_origin(origin: str) -> str:
    parts = urlsplit(origin)
    exact = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or exact != origin.lower():
        raise ValueError("expected an origin such as https://app.example or http://localhost:5173, without a path")
    return origin


Origin = Annotated[str, AfterValidator(_check_origin)]


class SecurityHeadersSettings(PolicySettings):
    """What depends on where the server stands.

    is_behind_tls    all clients come through TLS; needed for hsts_seconds
    hsts_seconds     browsers shall come by TLS alone for so long; 0 does not say so
    allowed_origins  other web pages that may read the answers (CORS); none by default, and never all
    """

    is_behind_tls: bool = False
    hsts_seconds: int = Field(default=0, ge=0, le=2 * 365 * 86400)
    allowed_origins: tuple[Origin, ...] = ()

    @model_validator(mode="after")
    def _check_tls(self) -> SecurityHeadersSettings:
        if self.hsts_seconds > 0 and not self.is_behind_tls:
            raise ValueError("hsts_seconds is set without is_behind_tls: browsers would be locked out")
        return self


class SecurityHeaders:
    """ASGI middleware, to be the outermost one, so that answers of the middleware below it get the fields as well.

    A Content-Security-Policy or Cache-Control that the application chose stays; all else is set here. Answers are
    `no-store` unless it chose: they hold what somebody sees in a private picture.
    """

    def __init__(self, app: Application, settings: SecurityHeadersSettings | None = None) -> None:
        settings = settings or SecurityHeadersSettings()
        self._app = app
        self._origins = frozenset(origin.lower() for origin in settings.allowed_origins)
        self._fields = list(_ALWAYS)
        if settings.hsts_seconds:
            self._fields.append((b"strict-transport-security", f"max-age={settings.hsts_seconds}".encode()))
        self._names = frozenset(name for name, _ in self._fields)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and completes the header fields of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = self._allowed_origin(scope)

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._completed(list(message.get("headers", ())), origin)
            await send(message)

        if origin is not None and _is_preflight(scope):
            await complete({"type": "http.response.start", "status": 204, "headers": _preflight_fields()})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, complete)

    def _completed(self, headers: list[tuple[bytes, bytes]], origin: str | None) -> list[tuple[bytes, bytes]]:
        kept = [(name, value) for name, value in headers if name.lower() not in self._names]
        given = {name.lower() for name, _ in kept}
        kept.extend(self._fields)
        if b"content-security-policy" not in given:
            kept.append((b"content-security-policy", CONTENT_SECURITY_POLICY.encode()))
        if b"cache-control" not in given:
            kept.append((b"cache-control", b"no-store"))
        if self._origins:
            kept.append((b"vary", b"Origin"))
        if origin is not None:
            kept.append((b"access-control-allow-origin", origin.encode("latin-1")))
            kept.append((b"access-control-expose-headers", _CROSS_ORIGIN_ANSWER_FIELDS.encode()))
        return kept

    def _allowed_origin(self, scope: Scope) -> str | None:
        if not self._origins:
            return None
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        return origins[0] if len(origins) == 1 and origins[0].lower() in self._origins else None


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


def _preflight_fields() -> list[tuple[bytes, bytes]]:
    # No Access-Control-Allow-Credentials: nothing here reads cookies.
    return [
        (b"access-control-allow-methods", ", ".join(_CROSS_ORIGIN_METHODS).encode()),
        (b"access-control-allow-headers", _CROSS_ORIGIN_REQUEST_FIELDS.encode()),
        (b"access-control-max-age", str(_PREFLIGHT_SECONDS).encode()),
    ]
