"""Compiles the C example against the core and measures its start and memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memory.first_use import peak_bytes
from race.core_build import core_build
from vision.networks import ROOT

CAPTIONS = 20  # long enough to look at the memory of a process that captions


def caption_program(folder: Path) -> Path:
    """examples/c/caption_ppm.c linked with the core's static libraries."""
    program = folder / "caption_ppm"
    archives = [str(path) for path in sorted(core_build().rglob("*.a"))]
    command = ["cc", "-O2", str(ROOT / "examples/c/caption_ppm.c"), f"-I{ROOT / 'core/include'}", "-o", str(program)]
    command += ["-Wl,--start-group", *archives, "-Wl,--end-group", "-lstdc++", "-lm", "-lpthread"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return program


def write_ppm(picture: Path, out: Path) -> None:
    """The picture as a PPM, which the example reads."""
    from PIL import Image

    with Image.open(picture) as opened:
        opened.convert("RGB").save(out, format="PPM")


def measure_program(program: Path, model: Path, ppm: Path, threads: int) -> dict[str, float]:
    """Milliseconds from start to ready (opened, no caption, closed again) and to the first caption; peak megabytes."""
    command = [str(program), str(model), str(ppm), str(threads)]

    def run(repeats: int) -> float:
        start = time.perf_counter()
        subprocess.run([*command, str(repeats)], check=True, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - start) * 1e3

    ready, first = run(0), run(1)
    with tempfile.TemporaryFile() as output, subprocess.Popen([*command, str(CAPTIONS)], stdout=output) as process:
        peak = 0
        while process.poll() is None:
            try:
                peak = max(peak, peak_bytes(str(process.pid)))
            except (OSError, StopIteration):
                break  # it just ended: a process that is being buried has no memory any more
            time.sleep(0.002)
        process.wait()
    if process.returncode != 0:
        raise SystemExit(f"race: {program.name} ended with {process.returncode}")
    return {"ready_ms": ready, "first_use_ms": first, "peak_mb": peak / 1e6}
