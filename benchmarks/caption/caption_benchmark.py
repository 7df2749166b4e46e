"""Measures captions on this machine: stages, whole captions, process start, memory, and onnxruntime's encoder."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobile_multimodal import MobileMultiModalLLM, find_model, load_image, native
from mobile_multimodal.model.hub import DEFAULT_MODEL

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "benchmarks"))

from record import circumstances  # noqa: E402
from vision.encoder_onnx import encoder_onnx  # noqa: E402

PICTURES = ("astronaut.jpg", "boats.jpg", "cat.jpg", "coffee.jpg", "photographer.jpg", "rocket.jpg", "sheep.jpg")

# What a first caption costs a process: prints the time of the first caption and the peak of resident memory.
# VmHWM, not getrusage: after a fork, getrusage still counts the parent's peak.
_FIRST_CAPTION = """
import sys, time
from mobile_multimodal import MobileMultiModalLLM
model = MobileMultiModalLLM.from_pretrained(sys.argv[1], threads=int(sys.argv[3]))
ready = time.perf_counter()
model.generate_caption(sys.argv[2])
done = time.perf_counter()
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(ready, done, peak)
"""


def main() -> None:
    """Runs every measurement and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="times each picture is captioned")
    parser.add_argument(
        "--processes", type=int, default=10, metavar="N", help="processes started for the first caption"
    )
    parser.add_argument("--without-onnxruntime", action="store_true", help="leave the comparison of encoders out")
    parser.add_argument(
        "--output", type=Path, help="JSON file (default: benchmarks/results/caption-<date>-<commit>.json)"
    )
    arguments = parser.parse_args()

    model_file = find_model(arguments.model)
    record = _circumstances(model_file)
    record["pictures"] = list(PICTURES)
    record["rounds"] = arguments.rounds
    record["results"] = {}
    for threads in arguments.threads:
        print(f"{threads} thread{'s' if threads > 1 else ''}", file=sys.stderr)
        results = _captions(model_file, threads, arguments.rounds)
        results |= _first_captions(model_file, threads, arguments.processes)
        if not arguments.without_onnxruntime:
            results |= _encoders(model_file, threads, arguments.rounds * len(PICTURES))
        record["results"][str(threads)] = results
    output = arguments.output or ROOT / "benchmarks/results" / f"caption-{record['date'][:10]}-{record['commit']}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record["results"], indent=2))
    print(f"written to {output}", file=sys.stderr)


def _circumstances(model_file: Path) -> dict[str, Any]:
    metadata = native.Engine(str(model_file)).metadata()
    packages = ("mobile-multimodal", "numpy", "Pillow", "onnxruntime")
    return circumstances("caption", "benchmarks/caption/caption_benchmark.py", packages) | {
        "model": {
            "name": metadata.get("general.name", ""),
            "file": model_file.name,
            "bytes": model_file.stat().st_size,
            "sha256_metadata": metadata.get("mm.sha256.metadata", ""),
        },
    }


def _captions(model_file: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Whole captions from decoded pixels, by beams; stages and time per token from the greedy ones."""
    with MobileMultiModalLLM.from_pretrained(model_file, threads=threads, enable_caching=False) as model:
        pictures = [load_image(ROOT / "examples/pictures" / name) for name in PICTURES]
        files = [(ROOT / "examples/pictures" / name).read_bytes() for name in PICTURES]
        results: dict[str, Any] = {}
        for name, beams in (("greedy", 1), ("beam_3", 3)):
            captions = [model.generate_caption(picture, num_beams=beams) for picture in pictures]  # warm-up
            timings: list[dict[str, float]] = []
            tokens: list[int] = []
            for _ in range(rounds):
                for picture in pictures:
                    caption = model.generate_caption(picture, num_beams=beams)
                    timings.append(caption.timings)
                    tokens.append(max(len(caption.tokens), 1))
            results[f"caption_{name}_ms"] = _summary([timing["total"] for timing in timings])
            per_token = [timing["decode"] / count for timing, count in zip(timings, tokens, strict=True)]
            results[f"per_token_{name}_ms"] = _summary(per_token)
            results[f"tokens_{name}_mean"] = round(sum(len(caption.tokens) for caption in captions) / len(captions), 2)
            if name == "greedy":
                for stage in ("resize", "encode", "prefill", "first_token"):
                    results[f"{stage}_ms"] = _summary([timing[stage] for timing in timings])
        whole = [_milliseconds(lambda data=data: model.generate_caption(data)) for data in files * rounds]
        results["generate_caption_from_jpeg_bytes_ms"] = _summary(whole)
        return results


def _first_captions(model_file: Path, threads: int, processes: int) -> dict[str, Any]:
    """From the start of a Python process: until the model is ready, until its first caption, and the peak memory."""
    ready_ms, caption_ms, peak_mb = [], [], []
    picture = str(ROOT / "examples/pictures/coffee.jpg")
    for _ in range(processes + 1):
        start = time.perf_counter()  # CLOCK_MONOTONIC: the child reads the same clock
        command = [sys.executable, "-c", _FIRST_CAPTION, str(model_file), picture, str(threads)]
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tempfile.gettempdir())
        ready, done, peak_kb = run.stdout.split()
        ready_ms.append((float(ready) - start) * 1000)
        caption_ms.append((float(done) - start) * 1000)
        peak_mb.append(int(peak_kb) / 1000)
    return {  # the first process warms the file cache
        "process_start_to_ready_ms": _summary(ready_ms[1:]),
        "process_start_to_first_caption_ms": _summary(caption_ms[1:]),
        "peak_resident_memory_mb": _summary(peak_mb[1:]),
    }


def _encoders(model_file: Path, threads: int, rounds: int) -> dict[str, Any]:
    """The encoder of the file beside the same one in float32 on onnxruntime, taking turns of ten."""
    import onnxruntime

    engine = native.Engine(str(model_file))
    session = native.Session(engine, threads)
    side = engine.image_size
    pixels = native.resize(load_image(ROOT / "examples/pictures/coffee.jpg"), side, side)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    reference = onnxruntime.InferenceSession(encoder_onnx(), options, providers=["CPUExecutionProvider"])
    image = np.ascontiguousarray(((pixels.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None])
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(max(rounds // 10, 2)):
        for work, times in (
            (lambda: session.run("encode_image", {"pixels": pixels}), ours),
            (lambda: reference.run(None, {"image": image}), theirs),
        ):
            time.sleep(0.02)  # the threads of the other one spin for a while after its last run
            work()
            times.extend(_milliseconds(work) for _ in range(10))
    return {"encode_image_program_ms": _summary(ours), "onnxruntime_fp32_encoder_ms": _summary(theirs)}


def _milliseconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 3),
        "p95": round(float(np.percentile(values, 95)), 3),
        "fastest": round(float(np.min(values)), 3),
        "count": len(values),
    }


if __name__ == "__main__":
    main()
