"""What a client may send is bounded while it arrives: bytes, time, headers and connections."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from serving_process import ServerProcess, running_server

LIMIT = 100_000


@pytest.fixture(scope="module")
def small_server() -> Iterator[ServerProcess]:
    """A server with bounds that a test reaches."""
    flags = {
        "--workers": "1",
        "--max-body-bytes": str(LIMIT),
        "--max-buffered-bytes": str(LIMIT + LIMIT // 2),
        "--body-timeout-seconds": "1.5",
        "--header-timeout-seconds": "1",
        "--max-header-bytes": "4096",
        "--max-connections": "20",
    }
    with running_server(*(part for pair in flags.items() for part in pair)) as running:
        yield running


def connect(server: ServerProcess) -> socket.socket:
    address = urlsplit(server.url)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port or 80), timeout=20)


def rest_of(connection: socket.socket) -> str:
    """All that comes until the server hangs up."""
    found = b""
    while piece := connection.recv(65536):
        found += piece
    return found.decode()


def head(*fields: str) -> bytes:
    lines = ["POST /v1/caption HTTP/1.1", "Host: localhost", "Content-Type: application/json", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def check(answer: str, status: int, name: str) -> None:
    assert answer.startswith(f"HTTP/1.1 {status} "), answer
    assert f'"urn:mobile-mm:problem:{name}"' in answer
    assert "connection: close" in answer.lower()
    assert "x-request-id: " in answer.lower()


def test_a_body_that_declares_too_much_is_refused_unread(small_server: ServerProcess) -> None:
    with connect(small_server) as connection:
        connection.sendall(head(f"Content-Length: {LIMIT + 1}", "Expect: 100-continue"))
        answer = rest_of(connection)
    check(answer, 413, "body-too-large")
    assert f"the body has {LIMIT + 1} bytes, expected at most {LIMIT}" in answer
    assert "100 Continue" not in answer


def test_a_body_that_grows_too_much_is_refused_on_the_way(small_server: ServerProcess) -> None:
    with connect(small_server) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        piece = b"x" * 10_000
        for _ in range(LIMIT // len(piece) + 1):
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        # The end is never sent: the answer comes without it.
        answer = rest_of(connection)
    check(answer, 413, "body-too-large")
    assert f"the body has more than {LIMIT} bytes" in answer


def test_a_client_that_sends_on_still_reads_the_answer(small_server: ServerProcess) -> None:
    # Ten times the limit, from a client that reads only when it has sent all.
    with connect(small_server) as connection:
        connection.sendall(head(f"Content-Length: {10 * LIMIT}") + b"x" * (10 * LIMIT))
        check(rest_of(connection), 413, "body-too-large")


def test_a_body_of_just_the_limit_is_taken(small_server: ServerProcess) -> None:
    body = b'{"image": "' + b"A" * (LIMIT - 13) + b'"}'
    assert len(body) == LIMIT
    with small_server.client() as client:
        answer = client.post("/v1/caption", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)  # it was read; it is no picture


def test_a_slow_body_is_given_up(small_server: ServerProcess) -> None:
    with connect(small_server) as connection:
        connection.sendall(head("Content-Length: 1000"))
        started = time.monotonic()
        try:
            while time.monotonic() - started < 10:
                connection.sendall(b" ")  # a byte now and then, as slow-loris clients do
                time.sleep(0.2)
        except OSError:
            pass  # hung up
        else:
            pytest.fail("the server waits for ever")


def test_a_slow_body_is_told_why(small_server: ServerProcess) -> None:
    with connect(small_server) as connection:
        connection.sendall(head("Content-Length: 1000") + b"{")
        answer = rest_of(connection)
    check(answer, 408, "body-timeout")
    assert "the body did not arrive within 1.5 s; 1 bytes did" in answer


@pytest.mark.parametrize("sent", [b"", b"POST /v1/caption HTTP/1.1\r\nHost: loc"])
def test_a_slow_header_is_given_up(small_server: ServerProcess, sent: bytes) -> None:
    with connect(small_server) as connection:
        connection.sendall(sent)
        answer = rest_of(connection)
    check(answer, 408, "header-timeout")


def test_a_slow_second_header_is_given_up_too(small_server: ServerProcess) -> None:
    with connect(small_server) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in connection.recv(65536)
        connection.sendall(b"GET /health/live HT")
        answer = rest_of(connection)
    assert "408 Request Timeout" in answer


@pytest.mark.parametrize("line", [b"X-Long: " + b"a" * 3000, b"X-Short: b"])
def test_a_header_without_an_end_is_refused(small_server: ServerProcess, line: bytes) -> None:
    with connect(small_server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        answer = ""
        try:
            for _ in range(8192 // len(line) + 1):
                connection.sendall(line + (b"\r\n" if len(line) < 100 else b""))
                time.sleep(0.0005)  # in pieces, as it would come over a network
            answer = rest_of(connection)
        except OSError:
            pass  # sent on after the answer: reset
    assert not answer or answer.startswith("HTTP/1.1 431 ")


def test_what_is_no_http_is_a_problem_too(small_server: ServerProcess) -> None:
    with connect(small_server) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        check(rest_of(connection), 400, "malformed-request")


def test_more_connections_than_there_may_be_are_refused(small_server: ServerProcess) -> None:
    opened = [connect(small_server) for _ in range(20)]
    try:
        with connect(small_server) as connection:
            answer = rest_of(connection)
        check(answer, 503, "queue-full")
        assert "retry-after: 1" in answer
    finally:
        for each in opened:
            each.close()


def test_the_room_for_bodies_is_shared_and_given_back(small_server: ServerProcess) -> None:
    with connect(small_server) as holder:
        holder.sendall(head(f"Content-Length: {LIMIT}") + b" " * (LIMIT - 1))
        with connect(small_server) as second:
            second.sendall(head(f"Content-Length: {LIMIT}") + b" " * (LIMIT - 1))
            answer = rest_of(second)
    check(answer, 503, "queue-full")
    assert "as many large requests as it has room for" in answer
    body = b'{"image": "' + b"A" * (LIMIT - 13) + b'"}'
    ends_at = time.monotonic() + 20
    while True:
        with small_server.client() as client:
            status = client.post("/v1/caption", content=body, headers={"content-type": "application/json"}).status_code
        if status != 503:
            break
        assert time.monotonic() < ends_at, "the room was not given back"
        time.sleep(0.1)
    assert status in (400, 422)


def test_a_client_that_does_not_read_is_hung_up_on(small_server: ServerProcess) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        parts = urlsplit(small_server.url)
        connection.connect((parts.hostname or "", parts.port or 0))
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        try:
            for _ in range(2000):  # some 60 KB each, one after the other
                connection.sendall(request)
                time.sleep(0.002)
            ended = connection.recv(1 << 16)
            while ended:
                ended = connection.recv(1 << 16)
        except ConnectionError:
            pass
    small_server.await_metric("mobile_multimodal_requests_in_flight", lambda value: value == 0)


def test_none_of_this_hurt_the_server(small_server: ServerProcess) -> None:
    answer = httpx.get(f"{small_server.url}/health", verify=False)
    assert answer.status_code == 200
    assert answer.json()["checks"]["workers_alive"] == 1
    metrics = small_server.metrics()
    assert metrics["mobile_multimodal_requests_in_flight"] == 1 - 1
    assert metrics['mobile_multimodal_errors_total{type="body-too-large"}'] >= 3
    assert metrics['mobile_multimodal_errors_total{type="body-timeout"}'] >= 1
    assert "".join(line for line in small_server.errors if "Traceback" in line) == ""
