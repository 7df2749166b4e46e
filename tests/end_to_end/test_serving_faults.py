"""Breaks things under load: workers, Redis, the server itself, one of two behind HAProxy."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis_server import RedisServer
from server_process import ServerProcess
from steady_load import SteadyLoad, different_pictures

KILLS = 3
CONNECTING_SECONDS = 0.25  # from a client's decision to ask until the server has its connection, on a busy machine


def metric(server: ServerProcess, name: str) -> float:
    """The value of one series, written as the server writes it."""
    for line in server.metrics_text().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no series {name}")


def wait_for(what: str, server: ServerProcess, name: str, value: float, seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while metric(server, name) != value:
        assert time.monotonic() < end, f"{what}: {name} is {metric(server, name)}, expected {value}"
        time.sleep(0.05)


def test_killed_workers_are_replaced_and_their_requests_tried_again() -> None:
    with ServerProcess(["--workers", "2"]) as server:
        with SteadyLoad(server.api, different_pictures(), clients=6) as load:
            load.wait_for_more(12)
            for kill in range(1, KILLS + 1):
                os.kill(server.worker_pids()[0], signal.SIGKILL)
                wait_for("the restart", server, 'mobile_multimodal_worker_restarts_total{reason="died"}', kill)
                load.wait_for_more(6)
                wait_for("both are back", server, 'mobile_multimodal_workers{state="dead"}', 0)
            server.wait_until_ready()
        statuses = load.statuses()
        assert set(statuses) <= {200, 503}, load.answers
        assert statuses[503] <= KILLS, statuses  # up to six requests were under way at each kill: most are tried again
        assert all(answer.retry_after for answer in load.answers if answer.status == 503)
        captions = {(answer.name, answer.result) for answer in load.answers if answer.status == 200}
        assert len(captions) == len({name for name, _ in captions}), "a picture got two different captions"
        assert len(server.worker_pids()) == 2


def test_redis_that_dies_hangs_and_comes_back_fails_no_request(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        flags = ["--workers", "1", "--cache-redis-url", redis.url, "--limits-redis-url", redis.url]
        flags += ["--cache-redis-retry-seconds", "1", "--limits-redis-retry-seconds", "1"]
        flags += ["--limits-anonymous", "1000000/minute"]
        up = 'mobile_multimodal_backend_up{backend="redis",use="cache"}'
        with ServerProcess(flags) as server:
            with SteadyLoad(server.api, different_pictures()) as load:
                load.wait_for_more(20)
                wait_for("Redis is used", server, up, 1)
                redis.kill()
                wait_for("its death is seen", server, up, 0)
                load.wait_for_more(20)
                redis.start()
                wait_for("its return is seen", server, up, 1)
                load.wait_for_more(20)
                redis.freeze()
                wait_for("its silence is seen", server, up, 0)
                load.wait_for_more(20)
                redis.thaw()
                wait_for("its return is seen", server, up, 1)
                load.wait_for_more(20)
            assert set(load.statuses()) == {200}, load.statuses()
            captions = {(answer.name, answer.result) for answer in load.answers}
            assert len(captions) == len({name for name, _ in captions})


def test_sigterm_under_load_answers_what_is_under_way() -> None:
    delay = 2.0
    with ServerProcess(["--workers", "2", "--drain-delay-seconds", str(delay)]) as server:
        with SteadyLoad(server.api, different_pictures()) as load:
            load.wait_for_more(8)
            told = time.monotonic()
            server.terminate()
            end = time.monotonic() + 20
            while server.get("/health/ready")[0] == 200:
                assert time.monotonic() < end, "still ready after SIGTERM"
            assert server.wait() == 0
        failed = [answer for answer in load.answers if answer.status != 200]
        assert {answer.status for answer in failed} <= {0, 503}, failed
        # Those that were sent while it still listened are answered. A request is begun before its connection is: one
        # begun at the very end may find the listener closing, which resets what it has not taken yet.
        assert not [answer for answer in failed if answer.began < told + delay - CONNECTING_SECONDS], failed[:3]


@contextmanager
def haproxy(folder: Path, ports: list[int]) -> Iterator[tuple[str, Path]]:
    """A load balancer that asks /health/ready five times a second; its address and control socket."""
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed (Debian package haproxy)")
    own, control = free_port(), folder / "control"
    servers = "\n".join(
        f"  server s{number} 127.0.0.1:{port} check inter 200ms fall 1 rise 1" for number, port in enumerate(ports)
    )
    (folder / "haproxy.cfg").write_text(
        f"""global
  stats socket {control} level admin
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  retries 3
  option redispatch
frontend all
  bind 127.0.0.1:{own}
  default_backend servers
backend servers
  balance leastconn
  option httpchk GET /health/ready
  http-check send hdr Host 127.0.0.1
{servers}
"""
    )
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=log) as process,
    ):
        try:
            yield f"http://127.0.0.1:{own}", control
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until_balanced(control: Path, count: int) -> None:
    """Waits until the load balancer sends to so many servers."""
    end = time.monotonic() + 40
    while True:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(control))
                connection.sendall(b"show stat\n")
                text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
            except OSError:
                text = ""
        if len(re.findall(r"^servers,s\d.*,UP,", text, flags=re.MULTILINE)) == count:
            return
        assert time.monotonic() < end, text
        time.sleep(0.05)


def test_a_rolling_restart_behind_haproxy_fails_no_request(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    flags = ["--workers", "1", "--drain-delay-seconds", "2"]
    servers = [ServerProcess(flags, port=port) for port in ports]
    try:
        with haproxy(tmp_path, ports) as (address, control):
            wait_until_balanced(control, 2)
            with SteadyLoad(address, different_pictures()) as load:
                load.wait_for_more(8)
                for number, port in enumerate(ports):
                    servers[number].terminate()
                    assert servers[number].wait() == 0
                    servers[number].kill()  # its group is empty by now; this removes its log
                    load.wait_for_more(4)  # the other one carries on alone
                    servers[number] = ServerProcess(flags, port=port)
                    wait_until_balanced(control, 2)
                    load.wait_for_more(4)
            assert set(load.statuses()) == {200}, [answer for answer in load.answers if answer.status != 200][:3]
    finally:
        for server in servers:
            server.kill()
