"""Answers carry the header fields that hold browsers back, and pages of other hosts get in only when named."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("pydantic", reason="needs the extra serve")

from pydantic import ValidationError

from mobile_multimodal.errors import PermissionDeniedError
from mobile_multimodal.serving.access.request_origins import LOOPBACK_HOSTS, RequestOrigins, RequestOriginSettings
from mobile_multimodal.serving.http.asgi import Message, Receive, Scope, Send
from mobile_multimodal.serving.http.security_headers import SecurityHeaders, SecurityHeadersSettings

APP = "https://app.example"


class Answering:
    """An application that gives one answer and counts how often it was asked."""

    def __init__(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        self.headers, self.status, self.calls = headers, status, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await send({"type": "http.response.body", "body": b"second"})


def ask(
    app: Answering,
    settings: SecurityHeadersSettings | None = None,
    method: str = "GET",
    **fields: str,
) -> tuple[int, dict[str, list[str]], bytes]:
    """Status, header fields and body of the answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    scope = {"type": "http", "method": method, "path": "/", "headers": headers}
    asyncio.run(SecurityHeaders(app, settings)(scope, receive, send))
    got: dict[str, list[str]] = {}
    for name, value in sent[0]["headers"]:
        got.setdefault(name.decode().lower(), []).append(value.decode())
    return sent[0]["status"], got, b"".join(message.get("body", b"") for message in sent)


def test_every_answer_carries_the_fields_once() -> None:
    for app in (Answering(), Answering(status=500), Answering((b"X-Frame-Options", b"SAMEORIGIN"))):
        status, headers, body = ask(app)
        assert (status, body) == (app.status, b"firstsecond")
        assert headers["x-content-type-options"] == ["nosniff"]
        assert headers["x-frame-options"] == ["DENY"]
        assert headers["referrer-policy"] == ["no-referrer"]
        assert headers["cache-control"] == ["no-store"]
        assert headers["cross-origin-opener-policy"] == ["same-origin"]
        assert headers["cross-origin-resource-policy"] == ["same-origin"]
        assert "camera=(self)" in headers["permissions-policy"][0]
        assert "microphone=()" in headers["permissions-policy"][0]
        assert "strict-transport-security" not in headers
        assert not any(name.startswith("access-control") for name in headers)


def test_the_policy_of_the_page_lets_in_nothing_from_elsewhere() -> None:
    _, headers, _ = ask(Answering())
    (policy,) = headers["content-security-policy"]
    directives = {part.split()[0]: part.split()[1:] for part in policy.split("; ")}
    assert directives["default-src"] == ["'none'"]
    assert directives["script-src"] == ["'self'"]
    assert directives["img-src"] == ["'self'", "blob:", "data:"]
    assert directives["connect-src"] == ["'self'"]
    assert directives["frame-ancestors"] == ["'none'"]
    assert directives["base-uri"] == ["'none'"]
    sources = {source for values in directives.values() for source in values}
    assert sources == {"'none'", "'self'", "blob:", "data:"}  # no unsafe-inline, no other host


def test_what_the_application_chose_for_caching_stays() -> None:
    own = ((b"Cache-Control", b"public, max-age=60"), (b"content-security-policy", b"default-src 'none'"))
    _, headers, _ = ask(Answering(*own))
    assert headers["cache-control"] == ["public, max-age=60"]
    assert headers["content-security-policy"] == ["default-src 'none'"]


def test_tls_is_asked_for_only_behind_tls() -> None:
    settings = SecurityHeadersSettings(is_behind_tls=True, hsts_seconds=31_536_000)
    assert ask(Answering(), settings)[1]["strict-transport-security"] == ["max-age=31536000"]
    with pytest.raises(ValidationError, match="is_behind_tls"):
        SecurityHeadersSettings(hsts_seconds=1)


def test_a_listed_page_may_read_answers_and_no_other() -> None:
    settings = SecurityHeadersSettings(allowed_origins=(APP,))
    _, headers, _ = ask(Answering(), settings, origin=APP)
    assert headers["access-control-allow-origin"] == [APP]
    assert "Retry-After" in headers["access-control-expose-headers"][0]
    assert headers["vary"] == ["Origin"]
    assert "access-control-allow-credentials" not in headers
    for origin in ("https://evil.example", "null", "https://app.example.evil.example", "http://app.example", ""):
        _, headers, _ = ask(Answering(), settings, origin=origin)
        assert not any(name.startswith("access-control") for name in headers)
        assert headers["vary"] == ["Origin"]
    assert ask(Answering(), settings)[1]["vary"] == ["Origin"]


def test_a_preflight_is_answered_for_a_listed_page_alone() -> None:
    settings = SecurityHeadersSettings(allowed_origins=(APP,))
    app = Answering(status=405)
    status, headers, body = ask(app, settings, "OPTIONS", origin=APP, access_control_request_method="POST")
    assert (status, body, app.calls) == (204, b"", 0)
    assert headers["access-control-allow-origin"] == [APP]
    assert headers["access-control-allow-methods"] == ["GET, POST"]
    assert "authorization" in headers["access-control-allow-headers"][0]
    assert headers["x-content-type-options"] == ["nosniff"]
    for fields in ({"origin": "https://evil.example", "access_control_request_method": "POST"}, {"origin": APP}):
        app = Answering(status=405)
        assert ask(app, settings, "OPTIONS", **fields)[0] == 405
        assert app.calls == 1


def test_other_kinds_of_traffic_pass_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        return None

    asyncio.run(SecurityHeaders(app)({"type": "lifespan"}, nothing, nothing))
    assert seen == ["lifespan"]


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example", "https://app.example/", "https://u:p@app.example", "file:///x", "https://"]
)
def test_an_origin_must_be_one(origin: str) -> None:
    with pytest.raises(ValidationError, match="allowed_origins"):
        SecurityHeadersSettings(allowed_origins=(origin,))


# --- requests of other pages ------------------------------------------------------------------------------------------


def check(settings: RequestOriginSettings, method: str = "POST", **fields: str) -> None:
    RequestOrigins(settings).check(method, [(name.encode(), value.encode()) for name, value in fields.items()])


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "LOCALHOST"])
def test_loopback_answers_to_its_own_names(host: str) -> None:
    check(RequestOriginSettings(allowed_hosts=LOOPBACK_HOSTS), host=host)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "", "127.0.0.1.evil.example", "[::2]", "::"]
)
def test_a_name_that_was_pointed_here_is_refused(host: str) -> None:
    with pytest.raises(PermissionDeniedError, match="Host"):
        check(RequestOriginSettings(allowed_hosts=LOOPBACK_HOSTS), "GET", host=host)
    with pytest.raises(PermissionDeniedError, match="Host"):
        check(RequestOriginSettings(allowed_hosts=LOOPBACK_HOSTS), "GET")


def test_two_hosts_are_none() -> None:
    with pytest.raises(PermissionDeniedError, match="Host"):
        RequestOrigins(RequestOriginSettings(allowed_hosts=("localhost",))).check(
            "GET", [(b"host", b"localhost"), (b"host", b"evil.example")]
        )


def test_a_suffix_covers_all_below_but_not_itself() -> None:
    settings = RequestOriginSettings(allowed_hosts=("*.captions.example",))
    check(settings, host="a.captions.example:443")
    check(settings, host="a.b.captions.example")
    for host in ("captions.example", "evilcaptions.example", "a.captions.example.evil.example"):
        with pytest.raises(PermissionDeniedError):
            check(settings, host=host)


def test_requests_of_our_own_page_and_of_programs_pass() -> None:
    check(RequestOriginSettings(), host="localhost:8080", origin="http://localhost:8080")
    check(RequestOriginSettings(), host="captions.example", origin="https://captions.example")
    check(RequestOriginSettings(), host="captions.example")
    check(RequestOriginSettings(allowed_origins=(APP,)), host="captions.example", origin=APP)
    check(RequestOriginSettings(), "GET", host="captions.example", origin="https://evil.example")


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:9090", "http://localhost", "https://localhost:8080.x", ""],
)
def test_a_page_of_another_host_may_send_nothing(origin: str) -> None:
    with pytest.raises(PermissionDeniedError, match="another host"):
        check(RequestOriginSettings(allowed_origins=(APP,)), host="localhost:8080", origin=origin)


@pytest.mark.parametrize("host", ["*", "a b", "https://a.example", "a.example:80", "*.", "[::1]"])
def test_a_host_must_be_one(host: str) -> None:
    with pytest.raises(ValidationError, match="allowed_hosts"):
        RequestOriginSettings(allowed_hosts=(host,))
