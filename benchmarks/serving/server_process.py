"""Runs `mobile-mm serve` as a process of its own, on free ports, and knows its workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 120.0  # a machine that does other things as well


class ServerProcess:
    """A server from its start to its end; `with` ends it. Its log is kept in `log`."""

    def __init__(
        self, arguments: Sequence[str] = (), *, port: int = 0, environment: dict[str, str] | None = None
    ) -> None:
        self._log_file = tempfile.NamedTemporaryFile(prefix="mobile-mm-serve-", suffix=".log", delete=False)  # noqa: SIM115
        command = [sys.executable, "-m", "mobile_multimodal.cli.main", "serve"]
        command += ["--port", str(port), "--metrics-port", "0", *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            env=os.environ | (environment or {}),
            start_new_session=True,
        )
        try:
            self.api, self.metrics = self._addresses()
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """All that it has written."""
        return Path(self._log_file.name).read_text(encoding="utf-8", errors="replace")

    def worker_pids(self) -> list[int]:
        """The processes that work: the front starts a fork server, and that starts them."""
        return [worker for child in _children_of(self.pid) for worker in _children_of(child)]

    def stats(self) -> dict[str, Any]:
        """What /v1/stats says."""
        found: dict[str, Any] = json.loads(self.get("/v1/stats")[1])
        return found

    def pids(self) -> list[int]:
        """The front and everything below it."""
        found = [self.pid]
        for pid in found:
            found.extend(_children_of(pid))
        return found

    def get(self, path: str, *, timeout: float = 10.0) -> tuple[int, str]:
        """Status and body of a GET, whatever the status; 0 when there is no connection."""
        return _get(self.api + path, timeout)

    def metrics_text(self) -> str:
        """What Prometheus would read."""
        status, text = _get(f"{self.metrics}/metrics", 10.0)
        assert status == 200, f"the metrics answered {status}"
        return text

    def wait_until_ready(self, seconds: float = START_SECONDS) -> float:
        """Waits until /health/ready answers 200; the seconds that it took."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            if self.get("/health/ready")[0] == 200:
                return time.monotonic() - start
            time.sleep(0.05)
        raise TimeoutError(f"not ready after {seconds:g} s:\n{self.log[-4000:]}")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 90.0) -> int:
        """The exit code."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Ends the whole process group, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self._log_file.close()
        Path(self._log_file.name).unlink(missing_ok=True)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # as SIGTERM, without the pause for load balancers
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(40)
        self.kill()

    def _addresses(self) -> tuple[str, str]:
        """Where it says that it listens, once it does."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            api = re.search(r"^ +API +(http\S+)/v1/inference$", self.log, flags=re.MULTILINE)
            metrics = re.search(r"^ +metrics +(http\S+)/metrics$", self.log, flags=re.MULTILINE)
            if api and metrics:
                return api.group(1), metrics.group(1)
            time.sleep(0.05)
        raise RuntimeError(f"the server did not start:\n{self.log[-4000:]}")


def _get(url: str, timeout: float) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")
    except (OSError, urllib.error.URLError):
        return 0, ""


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    except OSError:
        pass  # it has ended meanwhile
    return found
