"""Watches what a group of processes holds and uses: memory, open files and processor time, once a second."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
PERIOD_SECONDS = 1.0


def usage_of(pid: int) -> dict[str, float]:
    """Resident and proportional memory in bytes (a page shared by n processes counts 1/n), open files, CPU seconds."""
    memory = {"Rss": 0.0, "Pss": 0.0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in memory:
            memory[name] = 1024.0 * int(rest.split()[0])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return {
        "rss": memory["Rss"],
        "pss": memory["Pss"],
        "files": float(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())),
        "cpu_seconds": (int(fields[11]) + int(fields[12])) / TICKS,
    }


def busy_seconds_of_machine() -> float:
    """CPU seconds that all processors have spent on anything but waiting, since the machine started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS  # all but idle and iowait


class UsageWatch:
    """Samples in a thread while the `with` block runs; `samples` has one record a second."""

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self._pids = pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[dict[str, Any]] = []

    def __enter__(self) -> UsageWatch:
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self.samples.append(self._sample())
            if self._stop.wait(PERIOD_SECONDS):
                return

    def _sample(self) -> dict[str, Any]:
        processes = {}
        for pid in self._pids():
            try:
                processes[pid] = usage_of(pid)
            except OSError:
                continue  # it has ended meanwhile
        return {
            "seconds": round(time.monotonic() - self._start, 2),
            "machine_cpu_seconds": round(busy_seconds_of_machine(), 2),
            "processes": processes,
        }
