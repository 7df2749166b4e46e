"""Metrics have the names that rules and dashboards read, count what happened, and do not grow with users or paths."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving_process import ServerProcess, picture, running_server

# Name -> labels, as rules and dashboards use them.
NAMES = {
    "mobile_multimodal_requests_total": {"method", "endpoint", "status"},
    "mobile_multimodal_request_duration_seconds_bucket": {"endpoint", "le"},
    "mobile_multimodal_inference_duration_seconds_bucket": {"task", "le"},
    "mobile_multimodal_queue_wait_seconds_bucket": {"task", "le"},
    "mobile_multimodal_batch_size_bucket": {"task", "le"},
    "mobile_multimodal_errors_total": {"type"},
    "mobile_multimodal_inference_queue_length": set(),
    "inference_queue_length": set(),
    "mobile_multimodal_inference_queue_limit": set(),
    "mobile_multimodal_requests_in_flight": set(),
    "mobile_multimodal_cache_hits_total": {"cache", "backend"},
    "mobile_multimodal_cache_misses_total": {"cache"},
    "mobile_multimodal_cache_bytes": set(),
    "mobile_multimodal_cache_limit_bytes": set(),
    "mobile_multimodal_workers": {"state"},
    "mobile_multimodal_worker_restarts_total": {"reason"},
    "mobile_multimodal_worker_resident_bytes": {"worker"},
    "mobile_multimodal_confidence_bucket": {"task", "le"},
    "mobile_multimodal_rejected_total": {"reason"},
    "mobile_multimodal_disconnects_total": set(),
    "mobile_multimodal_ready": set(),
    "mobile_multimodal_info": {"model", "model_version", "version", "isa"},
    "process_resident_memory_bytes": set(),
    "process_open_fds": set(),
}


def ask(server: ServerProcess, root: Path) -> None:
    """One request of each task, one of them twice, and one that fails."""
    cat = {"image": picture(root)}
    with server.client() as client:
        for path, data in (
            ("caption", {}),
            ("caption", {}),
            ("ask", {"question": "Is it a cat?"}),
            ("ocr", {}),
            ("embed", {}),
        ):
            assert client.post(f"/v1/{path}", files=cat, data=data).status_code == 200
        assert client.post("/v1/caption", json={}).status_code == 422


def test_every_name_is_there_with_its_labels(server: ServerProcess, root: Path) -> None:
    ask(server, root)
    answer = httpx.get(server.metrics_url, verify=False)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert {name: found.get(name) for name in NAMES} == NAMES


@pytest.mark.parametrize(
    "name", ["mobile_multimodal_request_duration_seconds", "mobile_multimodal_inference_duration_seconds"]
)
def test_times_have_a_bucket_of_half_a_second(server: ServerProcess, root: Path, name: str) -> None:
    ask(server, root)
    assert any(re.match(rf'{name}_bucket\{{.*le="0\.5"', series) for series in server.metrics())


def test_what_happened_is_counted(server: ServerProcess, root: Path) -> None:
    ask(server, root)
    before = server.metrics()
    ask(server, root)
    after = server.metrics()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown('mobile_multimodal_requests_total{endpoint="/v1/caption",method="POST",status="200"}') == 2
    assert grown('mobile_multimodal_requests_total{endpoint="/v1/caption",method="POST",status="422"}') == 1
    assert grown('mobile_multimodal_errors_total{type="schema"}') == 1
    assert grown('mobile_multimodal_cache_hits_total{backend="memory",cache="response"}') == 5
    assert grown('mobile_multimodal_cache_misses_total{cache="response"}') == 0
    assert grown('mobile_multimodal_inference_duration_seconds_count{task="caption"}') == 0
    assert after["mobile_multimodal_inference_queue_limit"] == 64
    assert after["mobile_multimodal_ready"] == 1
    assert after['mobile_multimodal_workers{state="ready"}'] == 2


def test_series_do_not_grow_with_what_clients_make_up(server: ServerProcess) -> None:
    with server.client() as client:
        client.get("/made/up/0")
        client.request("PROPFIND", "/coffee/0")
        client.get("/v1/models/0")
        before = len(server.metrics())
        for number in range(1, 20):
            client.get(f"/made/up/{number}", headers={"x-request-id": f"request-{number}"})
            client.request("MKCOL", f"/coffee/{number}")
            client.get(f"/v1/models/{number}")
            client.get(f"/page/{number}")
            client.post("/v1/caption", json={f"field{number}": number})
        server.metrics()
        after = server.metrics()
    assert len(after) - before <= 12  # /page and /v1/caption were perhaps new
    assert after['mobile_multimodal_requests_total{endpoint="other",method="other",status="404"}'] >= 19


def test_a_client_that_leaves_takes_its_job_along(server: ServerProcess, root: Path) -> None:
    page = picture(root, "invoice.png")
    address = urlsplit(server.url)
    before = server.metrics()
    boundary = b"--b\r\nContent-Disposition: form-data; name="
    for seed in range(6):  # more than there are workers: some are called off while they wait, some while they run
        body = (
            boundary + b'"parameters"\r\n\r\n{"max_side": ' + b"%d" % (3500 + seed) + b"}\r\n"
            + boundary + b'"image"; filename="a.png"\r\n\r\n' + page + b"\r\n--b--\r\n"
        )  # fmt: skip
        head = (
            f"POST /v1/ocr HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
            connection.sendall(head.encode() + body)
            time.sleep(0.05)
    gone = before["mobile_multimodal_disconnects_total"] + 6
    server.await_metric("mobile_multimodal_disconnects_total", lambda value: value == gone)
    server.await_metric("mobile_multimodal_requests_in_flight", lambda value: value == 0)
    server.await_metric('mobile_multimodal_workers{state="busy"}', lambda value: value == 0)
    after = server.metrics()
    done = 'mobile_multimodal_inference_duration_seconds_count{task="ocr"}'
    assert after[done] - before.get(done, 0.0) < 6
    status = 'mobile_multimodal_requests_total{endpoint="/v1/ocr",method="POST",status="499"}'
    assert after[status] - before.get(status, 0.0) == 6


def test_a_client_that_leaves_a_stream_is_noticed(server: ServerProcess, root: Path) -> None:
    before = server.metrics()["mobile_multimodal_disconnects_total"]
    for name in ("grass.jpg", "rocket.jpg", "coffee.jpg", "retina.jpg"):
        with (
            server.client() as client,
            client.stream(
                "POST", "/v1/caption", files={"image": picture(root, name)}, data={"stream": "true"}
            ) as answer,
        ):
            next(answer.iter_lines())
    # A caption of a few milliseconds may be out before its reader has left.
    server.await_metric("mobile_multimodal_requests_in_flight", lambda value: value == 0)
    assert before <= server.metrics()["mobile_multimodal_disconnects_total"] <= before + 4
    with server.client() as client:
        assert client.get("/health/ready").status_code == 200


def test_the_metrics_port_has_nothing_else(server: ServerProcess) -> None:
    base = server.metrics_url.removesuffix("/metrics")
    assert httpx.get(f"{base}/v1/stats", verify=False).status_code == 404
    assert httpx.post(server.metrics_url, verify=False).status_code == 405
    with server.client() as client:
        assert client.get("/metrics").status_code == 404


def test_open_metrics_are_spoken_too(server: ServerProcess) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = httpx.get(server.metrics_url, headers=accept, verify=False)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_without_metrics_there_is_no_port() -> None:
    with running_server("--workers", "1", "--no-metrics", "--no-page") as running:
        assert running.metrics_url == ""
        assert "metrics" not in running.said
        with running.client() as client:
            assert client.get("/").status_code == 404
            assert client.get("/health").status_code == 200
