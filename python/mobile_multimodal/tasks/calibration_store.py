"""Keeps what calibration measured in the user's cache folder: a small file for each machine and model file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mobile_multimodal.tasks.cost_model import TaskCost

CACHE_VARIABLE: Final = "XDG_CACHE_HOME"
FOLDER_NAME: Final = "mobile-multimodal"
FORM: Final = 1  # of the file: another is measured again
KEPT_FILES: Final = 32  # of 1 KB; the oldest go, because every build of a model leaves one behind


@dataclass(frozen=True, kw_only=True)
class CalibrationKey:
    """What times depend on: where one of these differs, they are measured again."""

    model_path: str
    model_bytes: int
    model_modified_ns: int
    model_sha256: str
    cpu: str
    usable_cpus: int
    isa: str
    threads: int
    version: str

    @property
    def file_name(self) -> str:
        """The name of the file with these times."""
        written = json.dumps(asdict(self), sort_keys=True).encode()
        return f"calibration-{hashlib.sha256(written).hexdigest()[:24]}.json"

    @classmethod
    def of(cls, metadata: Mapping[str, Any], path: str, *, isa: str, threads: int, version: str) -> CalibrationKey:
        """The key of a model file on this machine; a file that is gone by now has size and time 0."""
        size, modified = 0, 0
        with contextlib.suppress(OSError):
            status = Path(path).stat()
            size, modified = status.st_size, status.st_mtime_ns
        return cls(
            model_path=str(Path(path).absolute()),
            model_bytes=size,
            model_modified_ns=modified,
            model_sha256=str(metadata.get("mm.sha256.metadata", "")),
            cpu=cpu_name(),
            usable_cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            isa=isa,
            threads=threads,
            version=version,
        )


def cpu_name() -> str:
    """What the processor calls itself."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cache_folder() -> Path | None:
    """$XDG_CACHE_HOME/mobile-multimodal or ~/.cache/mobile-multimodal; None where there is no home."""
    named = os.environ.get(CACHE_VARIABLE, "")
    if named and Path(named).is_absolute():  # the XDG specification: a relative path is to be ignored
        return Path(named) / FOLDER_NAME
    try:
        return Path.home() / ".cache" / FOLDER_NAME
    except RuntimeError:
        return None


class CalibrationStore:
    """Reads and writes the costs of one key. A folder that cannot be read or written is no error: it holds nothing."""

    def __init__(self, key: CalibrationKey, folder: Path | None) -> None:
        self._key = key
        self._path = None if folder is None else folder / key.file_name

    @property
    def path(self) -> Path | None:
        """Where the costs lie, or would lie."""
        return self._path

    def read(self) -> dict[str, TaskCost]:
        """The costs by task; none where the file is missing, damaged, or of another key or form."""
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if content["form"] != FORM or content["key"] != asdict(self._key):
                return {}
            return {str(task): TaskCost.from_dict(cost) for task, cost in content["tasks"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def write(self, costs: Mapping[str, TaskCost]) -> bool:
        """Puts a whole file in the place of the old one; False where that is not possible."""
        if self._path is None:
            return False
        tasks = {task: cost.to_dict() for task, cost in costs.items()}
        content = {"form": FORM, "key": asdict(self._key), "tasks": tasks}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".calibration-")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(content, file, indent=1)
                os.replace(name, self._path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
            self._forget_oldest()
        except OSError:
            return False
        return True

    def _forget_oldest(self) -> None:
        assert self._path is not None
        with contextlib.suppress(OSError):  # another process may forget the same files
            files = sorted(self._path.parent.glob("calibration-*.json"), key=lambda file: file.stat().st_mtime_ns)
            for file in files[:-KEPT_FILES]:
                file.unlink(missing_ok=True)
