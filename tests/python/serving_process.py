"""Runs `mobile-mm serve` as users do, in a process of its own on free ports."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

START_SECONDS = 60.0  # workers map and warm the model; the bound is for a machine that is busy with other things


@dataclass
class ServerProcess:
    """A server that answers. `errors` are its lines on stderr so far."""

    process: subprocess.Popen[str]
    url: str
    metrics_url: str
    said: str
    errors: list[str] = field(default_factory=list)

    def client(self, **options: object) -> httpx.Client:
        # Loading certificates takes longer than most requests here.
        return httpx.Client(base_url=self.url, timeout=30.0, verify=False, **options)  # type: ignore[arg-type]

    def metrics(self) -> dict[str, float]:
        """Every series with its value."""
        text = httpx.get(self.metrics_url, timeout=10.0).text
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def await_metric(self, name: str, is_right: Callable[[float], bool], seconds: float = 20.0) -> float:
        """The value of a series as soon as it is right."""
        ends_at = time.monotonic() + seconds
        while True:
            value = self.metrics().get(name, 0.0)
            if is_right(value):
                return value
            assert time.monotonic() < ends_at, f"{name} stays {value}"
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 30.0) -> int:
        return self.process.wait(seconds)


def command(*flags: str) -> list[str]:
    """The command line of a server on free ports, where every warning of Python is an error."""
    ports = ("--port", "0", "--metrics-port", "0")
    return [sys.executable, "-W", "error", "-m", "mobile_multimodal.cli.main", "serve", *ports, *flags]


@contextmanager
def running_server(*flags: str, environment: dict[str, str] | None = None) -> Iterator[ServerProcess]:
    """A server with these flags, ended by SIGKILL where the test did not end it."""
    process = subprocess.Popen(
        command(*flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    errors: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(target=lambda stream: errors.extend(iter(stream.readline, "")), args=(process.stderr,))
    reader.start()
    try:
        alarm = threading.Timer(START_SECONDS, process.kill)
        alarm.start()
        said = ""
        while "stops it" not in said:
            line = process.stdout.readline()
            assert line, f"the server did not start: {said}{''.join(errors)}"
            said += line
        alarm.cancel()
        url = re.search(r"API +(http://\S+)/v1/inference", said)
        metrics_url = re.search(r"metrics +(http://\S+)", said)
        assert url is not None
        yield ServerProcess(process, url[1], metrics_url[1] if metrics_url else "", said, errors)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()


def picture(root: Path, name: str = "cat.jpg") -> bytes:
    """The bytes of a sample picture."""
    return (root / "examples" / ("pages" if name.endswith(".png") else "pictures") / name).read_bytes()
