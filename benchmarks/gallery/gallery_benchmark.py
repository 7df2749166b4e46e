"""Measures galleries: searches, memory and building at 100,000 vectors, and pictures a second from real files."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mobile_multimodal import MobileMultiModalLLM, native
from mobile_multimodal.gallery import Gallery, SearchSettings
from mobile_multimodal.gallery.graph import graph_path
from mobile_multimodal.gallery.store import Store
from mobile_multimodal.gallery.vectors import quantize
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.model.identity import EmbeddingIdentity

ROOT = Path(__file__).resolve().parent.parent.parent
WIDTH = 256
COMMIT_ROWS = 64  # as the indexer commits
QUERIES = 400

# Run in processes of its own, so that peak memory is that of one open gallery.
_SEARCHES = """
import json, sys
sys.path.insert(0, sys.argv[1])
from gallery_benchmark import searches
print(json.dumps(searches(sys.argv[2], int(sys.argv[3]))))
"""


class FixedVectors:
    """Stands where a model does: synthetic vectors need none."""

    image_size = 224

    def get_embedding_identity(self) -> EmbeddingIdentity:
        return EmbeddingIdentity(name="synthetic vectors", digest="0" * 64)

    def embed_image(self, image: Any, /) -> NDArray[np.float32]:
        raise NotImplementedError("synthetic vectors have no pictures")

    def embed_text(self, text: str, /) -> NDArray[np.float32]:
        raise NotImplementedError("synthetic vectors have no texts")


def main() -> None:
    """Runs every measurement and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=100_000, metavar="N")
    parser.add_argument("--graph-vectors", type=int, default=0, metavar="N", help="also with a graph of so many")
    parser.add_argument("--pictures", type=int, default=200, metavar="N", help="real files to index; 0 for none")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file for the real files")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/gallery-<date>-<commit>.json")
    arguments = parser.parse_args()

    record = _circumstances()
    with tempfile.TemporaryDirectory(prefix="mobile-mm-gallery-") as name:
        folder = Path(name)
        record["vectors"] = _vectors(folder / "vectors", arguments.vectors, with_graph=False)
        if arguments.graph_vectors:
            record["graph"] = _vectors(folder / "graph", arguments.graph_vectors, with_graph=True)
        if arguments.pictures:
            record["pictures"] = _pictures(folder / "pictures", arguments.pictures, arguments.model)
    output = arguments.output or ROOT / "benchmarks/results" / f"gallery-{record['date'][:10]}-{record['commit']}.json"
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))
    print(f"written to {output}", file=sys.stderr)


def synthetic(count: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors in 1,000 clusters, as embeddings of photographs lie: a cosine of about 0.5 within a cluster."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((1000, WIDTH), dtype=np.float32)
    made = centres[random.integers(0, 1000, count)] + random.standard_normal((count, WIDTH), dtype=np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def _vectors(folder: Path, count: int, *, with_graph: bool) -> dict[str, Any]:
    """Writes an index without files, then searches it in a process of its own."""
    folder.mkdir()
    vectors = synthetic(count, 1)
    with Gallery.create(folder, FixedVectors()) as gallery:
        index = Path(gallery.status().index)
    store = Store(index, writable=True)
    start = time.perf_counter()
    for begin in range(0, count, COMMIT_ROWS):
        _insert(store, vectors[begin : begin + COMMIT_ROWS], begin)
    results: dict[str, Any] = {"count": count, "width": WIDTH, "write_seconds": round(time.perf_counter() - start, 2)}
    store.close()
    if with_graph:
        with Gallery.open(folder, FixedVectors(), writable=True) as gallery:
            start = time.perf_counter()
            gallery.extend_graph()
            results["graph_build_seconds"] = round(time.perf_counter() - start, 2)
            results["graph_mb"] = round(graph_path(index).stat().st_size / 1e6, 2)
    results["index_mb"] = round(index.stat().st_size / 1e6, 2)
    command = [sys.executable, "-c", _SEARCHES, str(Path(__file__).parent), str(folder), str(QUERIES)]
    results |= json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    results["recall_at_10_of_float32"] = _recall(folder, vectors)
    return results


def _insert(store: Store, vectors: NDArray[np.float32], first: int) -> None:
    with store.writing() as connection:
        connection.execute("INSERT OR IGNORE INTO settings VALUES ('width', ?)", (WIDTH,))
        for number, vector in enumerate(vectors, start=first):
            name = b"%04d/%06d.jpg" % (number // 1000, number)
            taken = f"{2000 + number % 26}-06-15T12:00:00"
            cursor = connection.execute(
                "INSERT INTO contents (sha256, scale, codes) VALUES (?, ?, ?)",
                (hashlib.sha256(name).digest(), *quantize(vector)),
            )
            connection.execute("INSERT INTO pictures VALUES (?, ?, 1, 1, ?)", (name, cursor.lastrowid, taken))


def searches(folder: str, count: int) -> dict[str, Any]:
    """Milliseconds of whole searches (snapshot, scan, paths), and memory before and after the gallery is loaded."""
    queries = synthetic(count, 2)
    before = _resident_mb("VmRSS")
    start = time.perf_counter()
    with Gallery.open(folder, FixedVectors()) as gallery:
        gallery.search_vector(queries[0])
        first = _since(start)
        loaded = _resident_mb("VmRSS")
        plain = [_milliseconds(lambda query=query: gallery.search_vector(query)) for query in queries]
        filtered = SearchSettings(folder="0007", since="2010")
        start = time.perf_counter()
        gallery.search_vector(queries[0], filtered)
        first_filtered = _since(start)
        again = [_milliseconds(lambda query=query: gallery.search_vector(query, filtered)) for query in queries]
        wide = SearchSettings(since="2010")
        start = time.perf_counter()
        gallery.search_vector(queries[0], wide)
        first_wide = _since(start)
        table = gallery._vectors.table if gallery._vectors is not None else None
        scans = [_milliseconds(lambda query=query: table.search(query, 10)) for query in queries]
        vectors_mb = table.bytes / 1e6
    return {
        "open_and_first_search_ms": first,
        "search_ms": _summary(plain),
        "scan_alone_ms": _summary(scans),
        "search_in_one_folder_ms": _summary(again),
        "first_search_of_a_folder_ms": first_filtered,
        "first_search_of_60_percent_by_date_ms": first_wide,
        "vectors_mb": round(vectors_mb, 2),
        "memory_of_an_open_gallery_mb": round(loaded - before, 2),
        "peak_memory_mb": _resident_mb("VmHWM"),
    }


def _recall(folder: Path, vectors: NDArray[np.float32]) -> float:
    """Share of the 10 nearest by float32 that a search finds."""
    queries = synthetic(100, 3)
    found = 0
    with Gallery.open(folder, FixedVectors()) as gallery:
        for query in queries:
            nearest = set(np.argpartition(-(vectors @ query), 10)[:10].tolist())
            found += len(nearest & {int(hit.path.stem) for hit in gallery.search_vector(query)})
    return round(found / (10 * len(queries)), 4)


def _pictures(folder: Path, count: int, model_name: str) -> dict[str, Any]:
    """Indexes JPEGs of 1024 pixels: the sample photographs, mirrored, turned and cut to make many of few."""
    folder.mkdir()
    sources = sorted((ROOT / "examples/pictures").glob("*.jpg"))
    for number in range(count):
        with Image.open(sources[number % len(sources)]) as source:
            picture = ImageOps.fit(source.convert("RGB"), (1024, 768 - number // len(sources)))
        (ImageOps.mirror(picture) if number // len(sources) % 2 else picture).save(
            folder / f"{number:05}.jpg", quality=90
        )
    with MobileMultiModalLLM.from_pretrained(model_name) as model, Gallery.create(folder, model) as gallery:
        model.embed_image(sources[0])  # warm-up
        report = gallery.update()
        again = gallery.update()
        text = [_milliseconds(lambda: gallery.search_text("a dog on the beach")) for _ in range(50)]
        status = gallery.status()
    shutil.rmtree(folder)
    return {
        "model": status.model,
        "count": report.added,
        "seconds": round(report.seconds, 3),
        "pictures_a_second": round(report.added / report.seconds, 1),
        "unchanged_files_a_second": round(again.unchanged / again.seconds, 1),
        "search_by_text_ms": _summary(text),
    }


def _circumstances() -> dict[str, Any]:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(": ", 1)[1].strip() for line in cpuinfo if line.startswith("model name")]
    return {
        "benchmark": "gallery",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        "command": " ".join(["python", "benchmarks/gallery/gallery_benchmark.py", *sys.argv[1:]]),
        "cpu": names[0] if names else platform.processor(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "load_average_before": os.getloadavg()[0],
        "real_time_priority": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),
        "isa": native.isa(),
        "versions": {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
        | {name: version(name) for name in ("numpy", "usearch")},
    }


def _resident_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return round(int(next(line for line in lines if line.startswith(field)).split()[1]) / 1000, 2)


def _milliseconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def _since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 2)


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 3),
        "p95": round(float(np.percentile(values, 95)), 3),
        "fastest": round(float(np.min(values)), 3),
        "count": len(values),
    }


if __name__ == "__main__":
    main()
