"""The part about the limit: each kernel against the ceilings of the same run, and where a program's time goes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from race.core_build import core_build
from race.peers import PeerList
from race.rounds import progress
from race.settings import RaceSettings

from mobile_multimodal import native

_SECONDS = 240
_PAST = 64  # tokens before the one that is written


def measure(settings: RaceSettings, peers: PeerList) -> dict[str, Any]:
    """`kernels`: lines of bench_kernels for the table in use; `programs`: lines of bench_program."""
    build = core_build()
    progress("kernels: every shape of the linear layers")
    options = ["--table", native.isa(), "--kernel", "linear_w", "--seconds", "0.01" if settings.is_quick else "0.05"]
    lines = _lines([str(build / "benchmarks/kernels/bench_kernels"), *options])
    programs = []
    for file, program, rows in _programs(settings, peers):
        for threads in settings.threads:
            progress(f"kernels: shares of {program} in {file.name}, {threads} threads")
            repeats = 20 if settings.is_quick or rows > 1 else 100
            command = [str(build / "benchmarks/program/bench_program"), str(file), program, str(threads), str(repeats)]
            command += [str(rows), str(0 if rows > 1 else _PAST)] if rows else []
            programs += [{**line, "file": file.name, "rows": rows} for line in _lines(command)]
    return {
        "ceilings": [line for line in lines if "ceiling" in line],
        "kernels": [line for line in lines if "kernel" in line],
        "programs": programs,
    }


def _programs(settings: RaceSettings, peers: PeerList) -> list[tuple[Path, str, int]]:
    """File, program and rows of text: captions (0: three beams), one token of text at 2 bits, and a prompt of 64."""
    chosen = [(settings.model, name, 0) for name in ("encode_image", "prefill", "decode")]
    if peers.has("gguf"):
        from language.model_files import our_file, source_file

        text = our_file(source_file(), "smollm2-w2", 2)
        chosen += [(text, "decode_text", rows) for rows in (1, 64)]
    return chosen


def _lines(command: list[str]) -> list[dict[str, Any]]:
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if run.returncode != 0:
        raise SystemExit(f"race: `{' '.join(command)}` ended with {run.returncode}:\n{run.stderr[-2000:]}")
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
