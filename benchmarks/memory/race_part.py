"""The part about memory and start: what a process costs until it is ready and after its first use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from memory.c_program import caption_program, measure_program, write_ppm
from race.contestant import BENCHMARKS
from race.peers import PeerList
from race.rounds import progress
from race.settings import RaceSettings
from vision.networks import ROOT

PICTURE = ROOT / "examples/pictures/coffee.jpg"
PAGE = ROOT / "examples/pages/invoice.png"
_SECONDS = 120


def measure(settings: RaceSettings, peers: PeerList) -> dict[str, Any]:
    """`processes`: for each process and number of threads medians over starts, which take turns."""
    starts = 2 if settings.is_quick else 8
    uses = _uses(settings, peers)
    processes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = caption_program(folder)
        write_ppm(PICTURE, folder / "picture.ppm")
        for threads in settings.threads:
            samples: dict[str, list[dict[str, float]]] = {}
            for number in range(starts + 1):  # the first one warms the file cache
                progress(f"memory and start, {threads} threads: start {number} of {starts}")
                found = {title: _python(what, first, second, threads) for title, (what, first, second) in uses.items()}
                found["C program: caption"] = measure_program(program, settings.model, folder / "picture.ppm", threads)
                if number > 0:
                    for title, sample in found.items():
                        samples.setdefault(title, []).append(sample)
            processes[str(threads)] = {title: _medians(own) for title, own in samples.items()}
    return {"starts": starts, "processes": processes}


def _uses(settings: RaceSettings, peers: PeerList) -> dict[str, tuple[str, str, str]]:
    """Title: what memory.first_use is asked for, with its two arguments."""
    uses = {
        "Python: caption": ("core_caption", str(settings.model), str(PICTURE)),
        "Python: page": ("core_page", str(settings.model), str(PAGE)),
    }
    if settings.is_quick:
        return uses
    if peers.has("onnxruntime", "PyTorch", "encoder weights"):
        from vision.networks import float_file

        uses["onnxruntime in Python: encoder alone"] = ("onnxruntime_encoder", str(float_file("encoder_224")), "")
        if peers.has("rapidocr"):
            networks = str(float_file("detect_640").parent)
            uses["rapidocr in Python: page"] = ("rapidocr_page", networks, str(PAGE))
    if peers.has("llama.cpp", "gguf"):
        from language.model_files import our_file, peer_file, source_file

        source = source_file()
        ours = our_file(source, "smollm2-w4", 4)
        uses["Python: SmolLM2-135M, W4"] = ("core_text", str(ours), "")
        uses["llama.cpp in Python: SmolLM2-135M, Q4_0"] = ("llama_cpp_text", str(peer_file(source, "Q4_0")), "")
    return uses


def _python(what: str, first: str, second: str, threads: int) -> dict[str, float]:
    paths = [str(BENCHMARKS), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "memory.first_use", what, first, second, str(threads)]
    start = time.perf_counter()
    run = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=tempfile.gettempdir(),
        timeout=_SECONDS,
    )
    if run.returncode != 0:
        raise SystemExit(f"race: the process `{what}` ended with {run.returncode}:\n{run.stderr[-2000:]}")
    found = json.loads(run.stdout.splitlines()[-1])
    return {
        "ready_ms": (found["ready"] - start) * 1e3,
        "first_use_ms": (found["done"] - start) * 1e3,
        "ready_mb": found["ready_bytes"] / 1e6,
        "peak_mb": found["peak_bytes"] / 1e6,
    }


def _medians(samples: list[dict[str, float]]) -> dict[str, float]:
    medians = {name: round(float(np.median([sample[name] for sample in samples])), 1) for name in samples[0]}
    return medians | {"slowest_ready_ms": round(max(sample["ready_ms"] for sample in samples), 1)}
