"""Sends 1,000 hostile requests to a real server, and holds connections open: it refuses, goes on, and loses nothing."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hostile_requests import PICTURE, Hostile, hostile_requests
from process_usage import usage_of
from request_bodies import picture_body
from server_process import ServerProcess

from mobile_multimodal.serving.access.api_keys import make_api_key

OURS = 860
OF_THE_DOCUMENT = 140  # schemathesis takes longer to think of a request than the server to refuse it
WORKERS = 2
GROWTH_BYTES = 150e6  # of all processes together: caches fill up to 20 MiB a worker, and pages of the model are touched
REASONS = (503, 504)  # the only 5xx that may be answered, and both say why


class Client:
    """Speaks to the server over one connection at a time, with the good key unless told otherwise."""

    def __init__(self, address: str, key: str) -> None:
        self._where = urllib.parse.urlsplit(address)
        self._key = key

    def send(self, request: Hostile) -> tuple[int, dict[str, str], bytes]:
        assert self._where.hostname is not None
        connection = http.client.HTTPConnection(self._where.hostname, self._where.port, timeout=120)
        try:
            connection.putrequest("POST", request.path)
            if "Authorization" not in request.headers:
                connection.putheader("X-API-Key", self._key)
            for name, value in request.headers.items():
                connection.putheader(name, value.encode("latin-1", "replace"))
            connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders()
            with suppress(BrokenPipeError, ConnectionResetError):  # it may refuse before all was sent, and says so
                connection.send(request.body)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def caption(self) -> str:
        status, _, body = self.send(Hostile("a good one", "/v1/caption", picture_body(PICTURE)))
        assert status == 200, body
        return str(json.loads(body)["result"]["text"])


@pytest.fixture(scope="module")
def key_and_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ServerProcess]]:
    """A server that asks for a key, and a key."""
    key, entry = make_api_key("tester")
    file: Path = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"{entry}\n", encoding="utf-8")
    file.chmod(0o600)
    flags = ["--workers", str(WORKERS), "--api-keys-file", str(file), "--cache-memory-bytes", "4000000"]
    flags += ["--header-timeout-seconds", "2", "--body-timeout-seconds", "3"]
    with ServerProcess(flags) as server:
        yield key, server


def total(server: ServerProcess, quantity: str) -> float:
    return sum(usage_of(pid)[quantity] for pid in server.pids())


def restarts(server: ServerProcess) -> float:
    """Workers that were replaced, for whatever reason."""
    counts = re.findall(r"^mobile_multimodal_worker_restarts_total\S* (\S+)$", server.metrics_text(), re.MULTILINE)
    assert len(counts) == 3
    return sum(map(float, counts))


def complaint_about(name: str, status: int, headers: dict[str, str], body: bytes) -> str | None:
    """What is wrong with an answer to a hostile request."""
    lower = {key.lower(): value for key, value in headers.items()}
    if "x-request-id" not in lower:
        return f"{name}: {status} without X-Request-Id"
    if status < 400:
        return None
    if status >= 500 and status not in REASONS:
        return f"{name}: {status} {body[:300]!r}"
    if "problem+json" not in lower.get("content-type", ""):
        problem = json.loads(body)
        return None if "error" in problem else f"{name}: {status} is no problem document: {body[:200]!r}"
    problem = json.loads(body)
    missing = {"type", "title", "status", "detail", "request_id"} - set(problem)
    if missing or problem["status"] != status:
        return f"{name}: {status} lacks {missing}: {body[:200]!r}"
    if status == 503 and "retry-after" not in lower:
        return f"{name}: 503 without Retry-After"
    if b"Traceback" in body or b"/python/" in body:
        return f"{name}: {status} tells about the inside: {body[:300]!r}"
    return None


def test_hostile_requests_are_refused_and_leave_nothing_behind(key_and_server: tuple[str, ServerProcess]) -> None:
    key, server = key_and_server
    client = Client(server.api, key)
    caption = client.caption()
    for request in hostile_requests(70, seed=1):  # every kind once: memory and files are those of a server at work
        client.send(request)
    processes, files, memory = len(server.pids()), total(server, "files"), total(server, "pss")

    complaints: list[str] = []
    statuses: Counter[int] = Counter()
    for request in hostile_requests(OURS, seed=2):
        status, headers, body = client.send(request)
        statuses[status] += 1
        if said := complaint_about(f"{request.path} {request.name}", status, headers, body):
            complaints.append(said)
        if "Authorization" in request.headers:
            assert status == 401, request.name
    assert not complaints, "\n".join(complaints[:10])
    assert statuses[200] + statuses[401] < OURS  # most are refused; a few changed bytes may leave a picture a picture

    assert client.caption() == caption
    assert server.get("/health/ready")[0] == 200
    assert restarts(server) == 0, server.log[-2000:]
    assert len(server.pids()) == processes
    end = time.monotonic() + 20  # the last connections are being closed
    while total(server, "files") > files + 4:
        assert time.monotonic() < end, f"{total(server, 'files')} open files, {files} before"
        time.sleep(0.2)
    assert total(server, "pss") <= memory + GROWTH_BYTES
    assert "Traceback" not in server.log


def test_requests_made_from_the_openapi_document_get_no_5xx(key_and_server: tuple[str, ServerProcess]) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    schemathesis = pytest.importorskip("schemathesis")
    key, server = key_and_server
    headers = {"X-API-Key": key}
    schema = schemathesis.openapi.from_url(f"{server.api}/openapi.json", headers=headers)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 8
    sent: list[int] = []
    complaints: list[str] = []

    for operation in operations:

        @hypothesis.settings(
            max_examples=OF_THE_DOCUMENT // len(operations),
            database=None,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            answer = case.call(headers=headers, timeout=120)
            sent.append(answer.status_code)
            if answer.status_code >= 500 and answer.status_code not in REASONS:
                complaints.append(f"{case.method} {case.path}: {answer.status_code} {answer.text[:300]}")

        ask()
    assert not complaints, "\n".join(complaints[:5])
    assert len(sent) >= OF_THE_DOCUMENT // 2  # it may find no more that differ
    assert restarts(server) == 0, server.log[-2000:]
    assert Client(server.api, key).caption()


def test_connections_that_send_slowly_are_closed_and_others_served(key_and_server: tuple[str, ServerProcess]) -> None:
    key, server = key_and_server
    where = urllib.parse.urlsplit(server.api)
    client = Client(server.api, key)
    head = f"POST /v1/caption HTTP/1.1\r\nHost: {where.netloc}\r\nX-API-Key: {key}\r\n"
    with ExitStack() as stack:
        slow = []
        for number in range(60):
            connection = stack.enter_context(socket.create_connection((where.hostname, where.port), timeout=10))
            connection.setblocking(False)
            connection.send(head.encode())
            if number % 2:  # every second one gets as far as the body
                connection.send(b"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{")
            slow.append(connection)
        end = time.monotonic() + 60  # far beyond both timeouts, for busy machines
        served = 0
        while slow:
            assert time.monotonic() < end, f"{len(slow)} connections are still open"
            slow = [connection for connection in slow if _goes_on(connection)]
            client.caption()
            served += 1
        assert served > 1
    assert server.get("/health/ready")[0] == 200


def _goes_on(connection: socket.socket) -> bool:
    """Sends one more byte and sees whether the other side still listens."""
    try:
        connection.send(b"x")
        while True:
            if connection.recv(65536) == b"":
                return False
    except BlockingIOError:
        return True
    except OSError:
        return False
