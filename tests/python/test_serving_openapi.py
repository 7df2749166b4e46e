"""The OpenAPI document is valid, complete, and says what the server does."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient
from openapi_spec_validator import validate
from serving_process import ServerProcess

from mobile_multimodal.serving.application import create_app
from mobile_multimodal.serving.configuration.settings import ServeSettings
from mobile_multimodal.serving.documentation import _MEANING_OF_STATUS
from mobile_multimodal.serving.http.problems import is_openai_path

PATHS = {
    "/v1/inference": {"post"},
    "/v1/caption": {"post"},
    "/v1/ocr": {"post"},
    "/v1/ask": {"post"},
    "/v1/embed": {"post"},
    "/v1/search": {"get", "post"},
    "/v1/search/thumbnails/{picture_id}": {"get"},
    "/v1/chat/completions": {"post"},
    "/v1/embeddings": {"post"},
    "/v1/models": {"get"},
    "/v1/models/{model}": {"get"},
    "/v1/stats": {"get"},
    "/health": {"get"},
    "/health/live": {"get"},
    "/health/ready": {"get"},
    "/health/startup": {"get"},
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    document: dict[str, Any] = create_app(ServeSettings(page=False)).openapi()
    return document


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, op) for path, methods in document["paths"].items() for method, op in methods.items()]


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(json.loads(json.dumps(document)))


def test_it_has_every_address(document: dict[str, Any]) -> None:
    assert {path: set(methods) for path, methods in document["paths"].items()} == PATHS


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert operation["summary"], (method, path)
        assert "200" in operation["responses"]
        for status, response in operation["responses"].items():
            assert response["description"]
            if status in ("200", "503") and path.startswith("/health"):
                continue
            if status != "200":
                kinds = set(response["content"])
                assert kinds == {"application/json" if is_openai_path(path) else "application/problem+json"}
                assert response["description"] == _MEANING_OF_STATUS[int(status)]
            if status in ("429", "503"):
                assert "Retry-After" in response["headers"]
            assert "X-Request-Id" in response["headers"]


def test_every_reference_leads_somewhere_and_nothing_is_left_over(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names <= set(document["components"]["schemas"])
    assert sorted(set(document["components"]["schemas"]) - names) == []


def test_every_json_body_has_an_example_that_fits(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for path, _, operation in operations(document):
        if "requestBody" not in operation:
            continue
        name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
        parts = [entry["$ref"].rsplit("/", 1)[1] for entry in schemas[name].get("oneOf", []) if "$ref" in entry]
        for part in parts or [name]:
            assert schemas[part]["examples"], path
            check = jsonschema_rs.validator_for(
                {"$ref": f"#/components/schemas/{part}", "components": document["components"]}
            )
            for example in schemas[part]["examples"]:
                check.validate(example)
            assert not check.is_valid({**schemas[part]["examples"][0], "unknown": 1})


def test_every_example_runs(server: ServerProcess, document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    ran = 0
    with server.client() as client:
        for path, method, operation in operations(document):
            if method != "post":
                continue
            name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            parts = [entry["$ref"].rsplit("/", 1)[1] for entry in schemas[name].get("oneOf", []) if "$ref" in entry]
            answers = operation["responses"]["200"]["content"]["application/json"]["schema"]
            check = jsonschema_rs.validator_for({**answers, "components": document["components"]})
            for example in [entry for part in parts or [name] for entry in schemas[part]["examples"]]:
                answer = client.post(path, json=example)
                assert answer.status_code == 200, (path, example, answer.text)
                check.validate(answer.json())
                ran += 1
    assert ran >= 12


def test_answers_without_a_body_fit_too(server: ServerProcess, document: dict[str, Any]) -> None:
    with server.client() as client:
        for path in (
            "/v1/stats",
            "/v1/search",
            "/v1/models",
            "/health",
            "/health/ready",
            "/health/live",
            "/health/startup",
        ):
            schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            check = jsonschema_rs.validator_for({**schema, "components": document["components"]})
            answer = client.get(path)
            assert answer.status_code == 200
            check.validate(answer.json())


def test_the_server_gives_it(server: ServerProcess, document: dict[str, Any]) -> None:
    with server.client() as client:
        assert client.get("/openapi.json").json() == document


def test_keys_are_told_where_they_are_needed(tmp_path: Any) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"anna:{'0' * 64}\n", encoding="utf-8")
    settings = ServeSettings(page=False, authentication={"api_keys_file": keys})
    document = create_app(settings).openapi()
    validate(json.loads(json.dumps(document)))
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    assert document["paths"]["/v1/ocr"]["post"]["security"] == [{"bearer": []}, {"key": []}]
    assert "security" not in document["paths"]["/health"]["get"]


def test_the_reference_is_there_only_when_it_is_asked_for(server: ServerProcess) -> None:
    client = TestClient(create_app(ServeSettings(page=False)), base_url="http://localhost")
    assert client.get("/docs").status_code == 404
    with server.client() as real:
        answer = real.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    for path in PATHS:
        assert path in answer.text
    assert "<script" not in answer.text
    assert "http://" not in answer.text.replace(server.url, "")
