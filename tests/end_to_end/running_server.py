"""Runs a real `mobile-mm serve` as a process of its own, for tests that look at it from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STOP_SECONDS = 30


@dataclass(frozen=True)
class RunningServer:
    """Where it listens, and its process."""

    address: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    @contextmanager
    def frozen_workers(self) -> Iterator[None]:
        """While it lasts nothing that needs a worker is answered: its processes stand still, the front one goes on."""
        pids = _descendants(self.process.pid)
        assert pids, "the server has no worker processes"
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """Ends it without a word to anybody, as a crash does; its workers notice by themselves."""
        self.process.kill()
        self.process.wait(_STOP_SECONDS)


@contextmanager
def running_server(folder: Path, *flags: str) -> Iterator[RunningServer]:
    """A server on free ports with one worker; `folder` takes what it writes to its standard error."""
    command = [sys.executable, "-m", "mobile_multimodal.cli.main", "serve", "--port", "0", "--metrics-port", "0"]
    log = folder / "server.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, "--workers", "1", *flags], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            said = ""
            address = None
            while address is None and (line := process.stdout.readline()):
                said += line
                address = re.search(r"^  page +(http://\S+?)/$", line, re.MULTILINE)
            assert address is not None, f"the server did not start: {said}{log.read_text()}"
            yield RunningServer(address[1], process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):  # gone meanwhile
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found
