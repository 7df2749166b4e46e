"""Builds the core with its benchmark programs in build/bench, for this machine's compiler, once per change."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from race.rounds import progress

ROOT = Path(__file__).resolve().parent.parent.parent


@functools.cache
def core_build() -> Path:
    """The folder with bench_kernels, bench_program and the static libraries; cmake does nothing when all is fresh."""
    folder = ROOT / "build/bench"
    progress("building the core's benchmarks in build/bench")
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=environment["PATH"]) else []
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    for command in (
        ["cmake", "-S", "core", "-B", str(folder), *generator, *launcher, "-DMM_BUILD_BENCHMARKS=ON"],
        ["cmake", "--build", str(folder), "-j", str(len(os.sched_getaffinity(0)))],
    ):
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise SystemExit(f"race: `{' '.join(command)}` failed:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    return folder
