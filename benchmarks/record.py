"""Says under what circumstances a benchmark ran: commit, machine, versions."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mobile_multimodal import native

ROOT = Path(__file__).resolve().parent.parent


def circumstances(benchmark: str, command: str, packages: tuple[str, ...]) -> dict[str, Any]:
    """What every record begins with; `command` is how a reader repeats it, without the arguments."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    cpu = next(
        (line.split(": ", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "benchmark": benchmark,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        "command": " ".join([command, *sys.argv[1:]]),
        "cpu": cpu,
        "cpus_usable": len(os.sched_getaffinity(0)),
        "load_average_before": os.getloadavg()[0],
        "real_time_priority": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),
        "isa": native.isa(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a source tree on PYTHONPATH
        import mobile_multimodal

        return mobile_multimodal.__version__ if package == "mobile-multimodal" else "not installed"


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []
