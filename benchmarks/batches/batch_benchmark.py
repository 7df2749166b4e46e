"""Measures captions of several pictures in one search against captions one by one, taking turns."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobile_multimodal import find_model, load_image, native
from mobile_multimodal.images import Pixels
from mobile_multimodal.model.hub import DEFAULT_MODEL

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "benchmarks"))

from record import circumstances  # noqa: E402

SIZES = (1, 2, 4, 8, 16)
PICTURES = 32  # whole batches of every size


def main() -> None:
    """Runs every measurement and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="times each size captions all pictures")
    parser.add_argument(
        "--output", type=Path, help="JSON file (default: benchmarks/results/batches-<date>-<commit>.json)"
    )
    arguments = parser.parse_args()

    model_file = find_model(arguments.model)
    engine = native.Engine(str(model_file))
    pictures = sample_pictures()
    record = circumstances("batches", "benchmarks/batches/batch_benchmark.py", ("mobile-multimodal", "numpy")) | {
        "model": {"file": model_file.name, "bytes": model_file.stat().st_size},
        "pictures": len(pictures),
        "rounds": arguments.rounds,
        "results": [],
    }
    for threads in arguments.threads:
        for beams in (3, 1):
            record["results"] += measure(engine, threads, beams, pictures, arguments.rounds)
    output = arguments.output or ROOT / "benchmarks/results" / f"batches-{record['date'][:10]}-{record['commit']}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for row in record["results"]:
        print(json.dumps(row))
    print(f"written to {output}", file=sys.stderr)


def sample_pictures() -> list[Pixels]:
    """The example pictures, their mirror images and their quarters, until there are enough of them."""
    files = sorted((ROOT / "examples/pictures").glob("*.jpg"))
    whole = [load_image(file) for file in files]
    mirrored = [picture[:, ::-1] for picture in whole]
    quarters = [picture[: picture.shape[0] // 2, : picture.shape[1] // 2] for picture in whole]
    others = [picture[picture.shape[0] // 2 :, picture.shape[1] // 2 :] for picture in whole]
    return [np.ascontiguousarray(picture) for picture in (*whole, *mirrored, *quarters, *others)][:PICTURES]


def measure(
    engine: native.Engine, threads: int, beams: int, pictures: Sequence[Pixels], rounds: int
) -> list[dict[str, Any]]:
    """A row a batch size; each round captions all pictures in every size, beginning with another one."""
    session = native.Session(engine, threads, feature_cache_bytes=0)
    expected = [session.caption(picture, num_beams=beams)["tokens"] for picture in pictures]
    wall: dict[int, list[float]] = {size: [] for size in SIZES}
    cpu: dict[int, list[float]] = {size: [] for size in SIZES}
    decode: dict[int, list[float]] = {size: [] for size in SIZES}
    for turn in range(rounds):
        for place in range(len(SIZES)):
            size = SIZES[(place + turn) % len(SIZES)]
            tokens: list[list[int]] = []
            decoding = 0.0
            start, cpu_start = time.perf_counter(), time.process_time()
            for first in range(0, len(pictures), size):
                records = session.caption_batch(pictures[first : first + size], num_beams=beams)
                made = [record for record in records if not isinstance(record, Exception)]
                tokens += [record["tokens"] for record in made]
                decoding += max(record["timings"]["decode"] for record in made)
            wall[size].append((time.perf_counter() - start) / len(pictures) * 1000)
            cpu[size].append((time.process_time() - cpu_start) / len(pictures) * 1000)
            decode[size].append(decoding / len(pictures))
            if tokens != expected:
                raise SystemExit(f"batches of {size} gave other captions than one by one")
    return [
        {
            "threads": threads,
            "num_beams": beams,
            "batch_size": size,
            "captions_per_second": round(1000 / float(np.median(wall[size])), 2),
            "captions_per_second_best": round(1000 / float(np.min(wall[size])), 2),
            "ratio_to_one_by_one": _ratio(wall[1], wall[size]),
            "cpu_milliseconds": round(float(np.median(cpu[size])), 2),
            "cpu_ratio_to_one_by_one": _ratio(cpu[1], cpu[size]),
            "decode_milliseconds": round(float(np.median(decode[size])), 2),
            "decode_ratio_to_one_by_one": _ratio(decode[1], decode[size]),
        }
        for size in SIZES
    ]


def _ratio(one_by_one: Sequence[float], batched: Sequence[float]) -> float:
    """How many times as fast: the median over rounds, whose halves share what else the machine was doing."""
    return round(float(np.median(np.array(one_by_one) / np.array(batched))), 3)


if __name__ == "__main__":
    main()
