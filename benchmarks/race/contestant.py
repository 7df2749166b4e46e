"""Holds one engine in a process of its own, which waits on a pipe, asleep, while the others have their turns."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from race.engine import Array

BENCHMARKS = Path(__file__).resolve().parent.parent
# A turn takes seconds; an engine that needs longer than this hangs, and the race must end in a bounded time.
TURN_SECONDS = 180.0


class RaceError(Exception):
    """A contestant failed; the message names it and ends with what its process said."""


@dataclass(frozen=True)
class Entry:
    """A contestant: the name in tables, `module:function` that opens its engine, and that function's arguments."""

    name: str
    factory: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """Seconds of each run of each workload: by the clock, and of all CPUs together."""

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]


class Contestant:
    """The parent's handle. Every contestant of a race gets the same CPUs and the same number of threads."""

    def __init__(self, entry: Entry, threads: int) -> None:
        self.name = entry.name
        self._idle_from = 0.0
        self.idle_cpu_seconds = 0.0
        cpus = sorted(os.sched_getaffinity(0))[-threads:]
        task = {"factory": entry.factory, "options": {**entry.options, "threads": threads}, "cpus": cpus}
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "OMP_THREAD_LIMIT": str(threads),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])),
        }
        self._said = tempfile.TemporaryFile(mode="w+", encoding="utf-8")  # noqa: SIM115 (closed with the process)
        command = [sys.executable, "-m", "race.turns", json.dumps(task)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, env=environment, text=True
        )
        self._ask_for_answer()  # ready
        self._idle_from = self._cpu_seconds()

    def turn(self, runs: dict[str, int]) -> Turn:
        """Lets the engine run each workload so many times."""
        self.idle_cpu_seconds += self._cpu_seconds() - self._idle_from
        answer = self._ask({"do": "turn", "runs": runs})
        self._idle_from = self._cpu_seconds()
        return Turn(answer["wall"], answer["cpu"])

    def answer(self) -> dict[str, Array]:
        """What the engine computes."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "answer.npz"
            self._ask({"do": "answer", "file": str(file)})
            with np.load(file) as arrays:
                result = {name: arrays[name] for name in arrays.files}
        self._idle_from = self._cpu_seconds()
        return result

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._process.poll() is None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._said.close()

    def __enter__(self) -> Contestant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer below says what happened
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._ask_for_answer()

    def _ask_for_answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        watch = threading.Timer(TURN_SECONDS, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            self._process.wait()
            self._said.seek(0)
            last = "".join(self._said.readlines()[-12:])
            raise RaceError(f"{self.name}: its process ended (status {self._process.returncode}) and said:\n{last}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _cpu_seconds(self) -> float:
        """The process's time on CPUs so far, in nanoseconds' precision where the kernel has it for every thread."""
        total = 0
        for task in Path(f"/proc/{self._process.pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text(encoding="ascii").split()[0])
            except (OSError, ValueError, IndexError):
                continue  # a thread that just ended
        return total * 1e-9
