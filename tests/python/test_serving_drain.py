"""A server that is told to stop answers what it has, sends others away at once, and ends in time with code 0."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from serving_process import ServerProcess, command, picture, running_server

from mobile_multimodal.errors import InvalidInputError, ModelNotFoundError, NotFoundError
from mobile_multimodal.serving.application import create_app
from mobile_multimodal.serving.configuration.settings import ServeSettings
from mobile_multimodal.serving.model_facts import facts_of_model
from mobile_multimodal.serving.search_index import SearchIndex
from mobile_multimodal.serving.server import listen

# A request whose body stays out.
ENDLESS = b"POST /v1/ocr HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"


def address_of(server: ServerProcess) -> tuple[str, int]:
    parts = urlsplit(server.url)
    return parts.hostname or "", parts.port or 0


@pytest.fixture
def page(root: Path) -> bytes:
    return picture(root, "invoice.png")


@pytest.fixture
def leaving_server() -> Iterator[ServerProcess]:
    with running_server("--workers", "1", "--drain-delay-seconds", "1.5", "--drain-timeout-seconds", "20") as running:
        yield running


def read_page(server: ServerProcess, page: bytes, seed: int, found: list[httpx.Response]) -> None:
    """One request that takes a while and that no cache knows."""
    with server.client() as client:
        parameters = f'{{"max_side": {3000 + seed}}}'
        found.append(client.post("/v1/ocr", files={"image": page}, data={"parameters": parameters}))


def start_reading(
    server: ServerProcess, page: bytes, count: int
) -> tuple[list[threading.Thread], list[httpx.Response]]:
    found: list[httpx.Response] = []
    threads = [threading.Thread(target=read_page, args=(server, page, seed, found)) for seed in range(count)]
    for thread in threads:
        thread.start()
    server.await_metric("mobile_multimodal_requests_in_flight", lambda value: value >= count)
    return threads, found


def test_sigterm_loses_no_request(leaving_server: ServerProcess, page: bytes) -> None:
    threads, found = start_reading(leaving_server, page, 4)
    with leaving_server.client() as client:
        assert client.get("/health/ready").status_code == 200
        leaving_server.signal(signal.SIGTERM)
        leaving_server.await_metric("mobile_multimodal_ready", lambda value: value == 0)
        ready = client.get("/health/ready")
        live = client.get("/health/live")
        late = client.post("/v1/embed", json={"text": "a cat"})
    assert ready.status_code == 503
    assert ready.json()["checks"]["draining"] is True
    assert ready.headers["connection"] == "close"
    assert live.status_code == 200
    # Who has not noticed yet is still answered, and told to connect anew: to another server, by then.
    assert late.status_code == 200
    assert late.headers["connection"] == "close"
    assert leaving_server.wait() == 0
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in found] == [200] * 4
    assert [line for line in leaving_server.errors if "Traceback" in line or "Warning" in line] == []


def test_a_second_signal_ends_at_once(leaving_server: ServerProcess, page: bytes) -> None:
    with ExitStack() as connections:
        for _ in range(3):  # bodies that never end would hold a drain up
            connection = connections.enter_context(socket.create_connection(address_of(leaving_server), timeout=20))
            connection.sendall(ENDLESS)
        leaving_server.await_metric("mobile_multimodal_requests_in_flight", lambda value: value >= 3)
        leaving_server.signal(signal.SIGTERM)
        leaving_server.await_metric("mobile_multimodal_ready", lambda value: value == 0)
        leaving_server.signal(signal.SIGTERM)
        assert leaving_server.wait() == 128 + signal.SIGTERM


def test_ctrl_c_drains_without_a_delay(page: bytes) -> None:
    with running_server("--workers", "1", "--drain-delay-seconds", "600") as running:
        threads, found = start_reading(running, page, 1)
        running.signal(signal.SIGINT)
        assert running.wait() == 0
        for thread in threads:
            thread.join()
    assert found[0].status_code == 200


def test_what_does_not_end_in_time_is_told_so() -> None:
    with running_server("--workers", "1", "--drain-delay-seconds", "0", "--drain-timeout-seconds", "1") as running:
        with socket.create_connection(address_of(running), timeout=20) as connection:
            connection.sendall(ENDLESS)
            running.await_metric("mobile_multimodal_requests_in_flight", lambda value: value >= 1)
            running.signal(signal.SIGTERM)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"urn:mobile-mm:problem:draining" in answer
        assert b"retry-after: 1" in answer
        assert running.wait() == 0


def test_a_signal_while_it_starts_ends_it() -> None:
    process = subprocess.Popen(command("--workers", "1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)  # the latter before Python had read anything
    assert "Traceback" not in errors


def test_a_start_that_fails_says_why_and_ends_with_its_code(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + bytes(100))
    run = subprocess.run(command("--model", str(damaged)), capture_output=True, text=True, timeout=120)
    assert run.returncode == 4
    assert run.stderr.startswith("mobile-mm: ")
    assert "hint: " in run.stderr
    assert "Traceback" not in run.stderr


def test_a_port_that_is_taken_is_told_with_the_next_step() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            InvalidInputError, match=f"metrics_port {port} on '127.0.0.1' cannot be listened on"
        ) as caught:
            listen("127.0.0.1", port, "metrics_port")
    assert caught.value.hint == "stop what has it, or choose another with --metrics-port (0 takes a free one)"


def test_a_host_without_an_address_is_told() -> None:
    with pytest.raises(InvalidInputError, match=r"host .* has no address"):
        listen("no.such.host.invalid", 0, "port")


def test_a_model_or_an_index_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no model is named 'no-such-model'"):
        create_app(ServeSettings(model="no-such-model"))
    with pytest.raises(NotFoundError, match="there is no index"):
        SearchIndex(tmp_path / "nothing", facts_of_model("mobile-mm-llm-int2").embedding)
