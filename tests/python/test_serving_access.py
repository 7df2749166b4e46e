"""A server with keys and limits answers who may ask, turns others away unread, and logs no key."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from serving_process import ServerProcess

from mobile_multimodal.serving.application import create_app
from mobile_multimodal.serving.configuration.settings import ServeSettings
from mobile_multimodal.serving.services import Services

KEY = "mm_" + "k" * 40
CAPTION = {"image": "QUJD"}


def app_with_keys(folder: Path, **settings: Any) -> FastAPI:
    keys = folder / "keys"
    keys.write_text(f"anna:{hashlib.sha256(KEY.encode()).hexdigest()}\n", encoding="utf-8")
    # Not started: who is let in is told that no worker is there yet.
    return create_app(ServeSettings(page=False, authentication={"api_keys_file": keys}, **settings))


def series(app: FastAPI, name: str, **labels: str) -> float:
    services: Services = app.state.services
    return services.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("headers", [{"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}])
def test_a_key_opens(tmp_path: Path, headers: dict[str, str]) -> None:
    client = TestClient(app_with_keys(tmp_path), base_url="http://anywhere.example")
    answer = client.post("/v1/caption", json=CAPTION, headers=headers)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the server is still starting"
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/v1/caption", "/v1/stats", "/v1/search", "/v1/nothing"])
@pytest.mark.parametrize("headers", [{}, {"x-api-key": "guess"}, {"authorization": "Basic YTpi"}])
def test_nobody_else_comes_in(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    app = app_with_keys(tmp_path)
    answer = TestClient(app).post(path, content=b"x" * 100, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:mobile-mm:problem:unauthenticated"
    assert answer.headers["www-authenticate"] == 'Bearer realm="mobile-mm"'
    assert answer.headers["connection"] == "close"  # the body was not read
    assert series(app, "mobile_multimodal_rejected_total", reason="unauthenticated") == 1
    assert series(app, "mobile_multimodal_errors_total", type="unauthenticated") == 1


def test_openai_s_clients_are_told_in_their_shape(tmp_path: Path) -> None:
    answer = TestClient(app_with_keys(tmp_path)).get("/v1/models")
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


def test_health_needs_no_key(tmp_path: Path) -> None:
    client = TestClient(app_with_keys(tmp_path))
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 503
    assert client.get("/openapi.json").status_code == 200


def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    app = app_with_keys(tmp_path, limits={"known": ("2/minute",)})
    client = TestClient(app, headers={"x-api-key": KEY})
    answers = [client.get("/v1/search") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=1", "r=0", "r=0"]
    assert answers[2].json()["type"] == "urn:mobile-mm:problem:rate-limited"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 60
    assert answers[2].headers["ratelimit-policy"].endswith(";q=2;w=60")
    assert series(app, "mobile_multimodal_rejected_total", reason="rate_limited") == 1
    assert TestClient(app).get("/health/live").status_code == 200


def test_requests_are_logged_with_their_id_and_without_their_content(server: ServerProcess) -> None:
    question, key = "Is this my private question?", "mm_secretkey_0123456789"
    with server.client() as client:
        answer = client.post(
            "/v1/ask",
            json={"image": "QUJD", "question": question},
            headers={"x-api-key": key, "x-request-id": "log-test-1"},
        )
        assert answer.status_code == 422
        client.get("/health/live", headers={"x-request-id": "log-test-2"})  # its answer comes after that line
    lines = [json.loads(line) for line in list(server.errors) if '"log-test-1"' in line]
    assert len(lines) == 1
    line = lines[0]
    assert line["event"] == "request"
    assert line["endpoint"] == "/v1/ask"
    assert line["status"] == 422
    assert line["problem"] == "invalid-image"
    assert line["caller"] == "127.0.0.1"
    assert line["milliseconds"] > 0
    everything = "".join(server.errors)
    assert question not in everything
    assert key not in everything
    assert "QUJD" not in everything
