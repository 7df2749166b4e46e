"""Each wrong request gets its own problem: type, status, what is wrong and the next step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pybase64
import pytest
from serving_process import ServerProcess, picture

from mobile_multimodal.serving.schemas import EXAMPLE_IMAGE, Problem

PROBLEM = "urn:mobile-mm:problem:"


def post(server: ServerProcess, path: str, **options: Any) -> httpx.Response:
    with server.client() as client:
        return client.post(path, **options)


def check(answer: httpx.Response, status: int, name: str, detail: str, hint: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    Problem.model_validate(body, strict=True)
    assert body["type"] == PROBLEM + name
    assert body["status"] == status
    assert detail in body["detail"]
    assert hint in body["hint"]
    assert body["hint"]
    assert body["instance"] == answer.request.url.path
    assert body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "body", "status", "name", "detail", "hint"),
    [
        ("caption", {}, 422, "schema", "field 'image' is missing", "/openapi.json"),
        ("caption", [], 422, "schema", "expected", ""),
        ("caption", {"image": ""}, 422, "schema", "field 'image'", ""),
        ("caption", {"image": 5}, 422, "schema", "field 'image': expected a valid string", ""),
        ("caption", {"image": "?"}, 400, "invalid-input", "image is no base64", "base64 -w0"),
        ("caption", {"image": "QUJ\nDRA=="}, 400, "invalid-input", "image is no base64", "no line breaks"),
        ("caption", {"image": "é"}, 400, "invalid-input", "image is no base64", ""),
        ("caption", {"image": "QUJDRA=="}, 422, "invalid-image", "no readable picture", "JPEG or PNG"),
        ("caption", {"image": "data:text/html;base64,QUJDRA=="}, 415, "unsupported-media-type", "'text/html'", "JPEG"),
        ("caption", {"image": "data:image/png,QUJDRA=="}, 400, "invalid-input", "without base64", ";base64,"),
        ("caption", {"image": "data:image/png;base64"}, 400, "invalid-input", "is no data URL", "base64"),
        ("caption", {"image": "data:image/png;base64,"}, 400, "invalid-input", "image is empty", ""),
        ("caption", {"image": "https://a.example/b.jpg"}, 400, "invalid-input", "fetches none", "as base64"),
        (
            "caption",
            {"image": EXAMPLE_IMAGE, "parameter": {}},
            422,
            "schema",
            "unknown field 'parameter'",
            "'parameters'",
        ),
        (
            "caption",
            {"image": EXAMPLE_IMAGE, "parameters": {"num_beam": 1}},
            422,
            "schema",
            "unknown field 'parameters.num_beam'",
            "did you mean 'num_beams'?",
        ),
        ("caption", {"image": EXAMPLE_IMAGE, "parameters": {"num_beams": "1"}}, 422, "schema", "valid integer", ""),
        ("caption", {"image": EXAMPLE_IMAGE, "parameters": {"num_beams": 17}}, 422, "schema", "equal to 16", ""),
        (
            "caption",
            {"image": EXAMPLE_IMAGE, "parameters": {"num_beams": 2, "temperature": 1}},
            400,
            "invalid-input",
            "temperature=1.0 and num_beams=2 exclude each other",
            "drop temperature",
        ),
        (
            "caption",
            {"image": EXAMPLE_IMAGE, "stream": True, "parameters": {"num_beams": 3}},
            400,
            "invalid-input",
            "num_beams is 3 in a stream, expected 1",
            "drop num_beams",
        ),
        (
            "caption",
            {"image": EXAMPLE_IMAGE, "model": "gpt"},
            404,
            "not-found",
            "model 'gpt' is not served here",
            "ask for",
        ),
        ("caption", {"image": EXAMPLE_IMAGE, "deadline_seconds": 0}, 422, "schema", "deadline_seconds", ""),
        (
            "caption",
            {"image": EXAMPLE_IMAGE, "deadline_seconds": 61},
            400,
            "invalid-input",
            "at most 60",
            "ask for less",
        ),
        (
            "caption",
            {"image": EXAMPLE_IMAGE, "deadline_seconds": 1e-6},
            504,
            "deadline-exceeded",
            "the deadline passed",
            "more time",
        ),
        ("ask", {"image": EXAMPLE_IMAGE}, 422, "schema", "field 'question' is missing", ""),
        ("ask", {"image": EXAMPLE_IMAGE, "question": " "}, 422, "schema", "field 'question'", ""),
        ("ask", {"image": EXAMPLE_IMAGE, "question": "x" * 65537}, 422, "schema", "at most 65536 characters", ""),
        ("ask", {"image": EXAMPLE_IMAGE, "question": "é" * 40000}, 400, "invalid-input", "80000 bytes", ""),
        ("ask", {"image": EXAMPLE_IMAGE, "question": "?", "options": ["a"]}, 422, "schema", "at least 2 items", ""),
        ("ask", {"image": EXAMPLE_IMAGE, "question": "?", "options": ["a", "a"]}, 400, "invalid-input", "'a'", "once"),
        (
            "ask",
            {"image": EXAMPLE_IMAGE, "question": "?", "options": ["a", "b"], "parameters": {"top_k": 2}},
            400,
            "invalid-input",
            "top_k stands beside options",
            "drop top_k",
        ),
        ("embed", {}, 422, "schema", "expected either image or text", ""),
        ("embed", {"text": "a", "image": EXAMPLE_IMAGE}, 422, "schema", "expected either image or text", ""),
        ("inference", {"image": EXAMPLE_IMAGE}, 422, "schema", "field 'task' is missing", ""),
        ("inference", {"task": "captoin", "image": EXAMPLE_IMAGE}, 422, "schema", "'caption'", ""),
        ("inference", {"task": "ocr", "image": EXAMPLE_IMAGE, "question": "?"}, 422, "schema", "unknown field", ""),
        ("search", {"query": "a", "folder": "../.."}, 400, "invalid-input", "folder is '../..'", "relative"),
        ("search", {"query": "a", "folder": "/etc"}, 400, "invalid-input", "folder is '/etc'", "relative"),
        ("search", {"query": "a", "since": "tomorrow"}, 400, "invalid-input", "since is 'tomorrow'", "2026-07-14"),
        ("search", {"query": "a", "k": 0}, 422, "schema", "field 'k'", ""),
        ("search", {}, 422, "schema", "expected either query or image", ""),
    ],
)
def test_wrong_fields(
    server: ServerProcess, path: str, body: Any, status: int, name: str, detail: str, hint: str
) -> None:
    check(post(server, f"/v1/{path}", json=body), status, name, detail, hint)


@pytest.mark.parametrize(
    ("content", "kind", "status", "name", "detail"),
    [
        (b"{", "application/json", 400, "malformed-body", "the body is no JSON"),
        (b"", "application/json", 400, "malformed-body", "the body is no JSON"),
        (b"\xff\xfe", "application/json", 400, "malformed-body", "the body is no JSON"),
        (b"[" * 100_000, "application/json", 400, "malformed-body", "recursion limit"),
        (b'{"image": "\\ud800"}', "application/json", 400, "malformed-body", "the body is no JSON"),
        (b'{"image": "QUI=", "deadline_seconds": NaN}', "application/json", 422, "schema", "deadline_seconds"),
        (b"{}", "text/plain", 415, "unsupported-media-type", "'text/plain', expected application/json or multipart"),
        (b"{}", "", 415, "unsupported-media-type", "Content-Type is ''"),
        (b"x", "multipart/form-data", 400, "malformed-body", "the body is no multipart form"),
        (b"x", "multipart/form-data; boundary=b", 400, "malformed-body", "the body is no multipart form"),
    ],
)
def test_bodies_that_are_not_what_they_say(
    server: ServerProcess, content: bytes, kind: str, status: int, name: str, detail: str
) -> None:
    check(post(server, "/v1/caption", content=content, headers={"content-type": kind}), status, name, detail)


@pytest.mark.parametrize(
    ("files", "data", "status", "name", "detail"),
    [
        ({"picture": b"x"}, {}, 422, "schema", "field 'picture' is a file, expected the file in field 'image'"),
        ({"image": b""}, {}, 422, "schema", "field 'image' is an empty file"),
        ({"image": b"x"}, {"image": "y"}, 422, "schema", "field 'image' is there twice"),
        ({"image": b"x"}, {"model": ["a", "b"]}, 422, "schema", "field 'model' is there twice"),
        ({"image": b"x"}, {"parameters": "{"}, 400, "malformed-body", "field 'parameters' is no JSON"),
        ({"image": b"x"}, {"parameters": "[]"}, 422, "schema", "field 'parameters'"),
        ({"image": b"x"}, {"deadline_seconds": "soon"}, 422, "schema", "field 'deadline_seconds'"),
        ({"image": b"x"}, {"colour": "red"}, 422, "schema", "unknown field 'colour'"),
        ({"image": b"x"}, {"model": "m" * 1_100_000}, 400, "malformed-body", "exceeded maximum size"),
        ([("image", b"x"), ("image", b"y")], {}, 400, "malformed-body", "Too many files"),
    ],
)
def test_wrong_forms(
    server: ServerProcess, files: Any, data: dict[str, Any], status: int, name: str, detail: str
) -> None:
    check(post(server, "/v1/caption", files=files, data=data), status, name, detail)


def test_a_cut_off_picture_is_told_apart(server: ServerProcess, root: Path) -> None:
    half = picture(root)[:2000]
    check(post(server, "/v1/ocr", files={"image": half}), 422, "invalid-image", "damaged or cut off", "again")


def test_a_bomb_is_refused_by_what_it_declares(server: ServerProcess) -> None:
    header = b"P6 30000 30000 255\n"  # a PPM file of 2.7 GB, of which 20 bytes are there
    check(post(server, "/v1/caption", files={"image": header}), 413, "image-too-large", "declares too many pixels")


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b'{"options": [' + b"1," * 100_001 + b"1]}", 400, "the body has 100001 commas, expected at most 100000"),
        (b'{"' + b"x" * 1_000_000 + b'": 1}', 422, "unknown field"),
        (b'{"task": "' + b"x" * 1_000_000 + b'"}', 422, "field 'task' is unknown, expected 'caption', 'ocr'"),
        (b"{" + b",".join(b'"f%d": 1' % number for number in range(50_000)) + b"}", 422, "unknown field"),
    ],
)
def test_large_nonsense_gets_a_small_answer(server: ServerProcess, content: bytes, status: int, told: str) -> None:
    path = "/v1/inference" if b"task" in content else "/v1/caption"
    answer = post(server, path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert told in answer.json()["detail"]
    assert len(answer.content) < 4000


def test_no_problem_repeats_the_body(server: ServerProcess) -> None:
    private = pybase64.b64encode_as_string(b"private" * 20)
    for body in ({"image": 7, "question": private}, {"image": private, "extra": private}, {"image": private + "!"}):
        answer = post(server, "/v1/ask", json=body)
        assert answer.status_code in (400, 422)
        assert private[:30] not in answer.text


@pytest.mark.parametrize("path", ["/nothing", "/v1/inference/", "/v1/search/thumbnails/AAAA", "/page/../serve.py"])
def test_addresses_that_are_not_there(server: ServerProcess, path: str) -> None:
    with server.client() as client:
        answer = client.get(path)
    assert answer.status_code == (405 if path == "" else 404), answer.text
    assert answer.json()["type"] in (f"{PROBLEM}route-not-found", f"{PROBLEM}not-found")


def test_a_method_that_is_not_taken(server: ServerProcess) -> None:
    with server.client() as client:
        answer = client.get("/v1/inference")
    check(answer, 405, "method-not-allowed", "/v1/inference does not take GET", "POST")
    assert answer.headers["allow"] == "POST"


def test_openai_s_addresses_answer_in_openai_s_shape_everywhere(server: ServerProcess) -> None:
    for path, options in (
        ("/v1/chat/completions", {"content": b"{", "headers": {"content-type": "application/json"}}),
        ("/v1/chat/completions", {"json": {"model": "m"}}),
        ("/v1/embeddings", {"data": {"input": "a"}}),
        ("/v1/models", {}),
    ):
        answer = post(server, path, **options)  # type: ignore[arg-type]
        assert answer.status_code in (400, 405, 415)
        assert answer.headers["content-type"] == "application/json"
        assert set(json.loads(answer.text)["error"]) == {"message", "type", "param", "code"}


def test_a_name_that_is_not_this_machine_s_is_refused(server: ServerProcess) -> None:
    with server.client() as client:
        for host, status in (("evil.example", 403), ("localhost", 200), ("[::1]:8080", 200)):
            assert client.get("/v1/stats", headers={"host": host}).status_code == status
        sent = client.post("/v1/embed", json={"text": "a"}, headers={"origin": "https://evil.example"})
    check(sent, 403, "permission-denied", "a web page of another host may not send requests", "allowed_origins")
