"""Prints what a worker process costs: memory of its own, time and CPU beside the core, and what batches save."""

from __future__ import annotations

import argparse
import asyncio
import io
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobile_multimodal import native
from mobile_multimodal.images import load_image
from mobile_multimodal.model.hub import DEFAULT_MODEL, find_model
from mobile_multimodal.serving.workers.job import Job
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.worker_pool import WorkerPool

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
PICTURE = (EXAMPLES / "pictures" / "boats.jpg").read_bytes()
PAGE = (EXAMPLES / "pages" / "invoice.png").read_bytes()


def noise(seed: int) -> bytes:
    """A picture like no other, as PNG."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def memory_of(pid: int) -> str:
    """USS, PSS and RSS of a process in MB."""
    kilobytes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        kilobytes[name] = int(value)
    own = kilobytes["Private_Clean:"] + kilobytes["Private_Dirty:"]
    return "  ".join(f"{value * 1024 / 1e6:6.1f}" for value in (own, kilobytes["Pss:"], kilobytes["Rss:"]))


async def answers(pool: WorkerPool, jobs: list[Job]) -> list[Any]:
    """What the pool answers to jobs given at once."""
    return await asyncio.gather(*(pool.run(job, deadline=time.monotonic() + 600) for job in jobs))


async def print_memory(workers: int) -> None:
    """Memory when ready, and when caches and batches are full."""
    pool = WorkerPool(PoolSettings(workers=workers, queue_length=1000))
    await pool.start()

    def show(when: str) -> None:
        for worker in pool.status().workers:
            print(f"{workers} workers, {when:6}  USS PSS RSS  {memory_of(worker.pid)} MB")

    show("ready")
    await answers(pool, [Job(task="caption", image=noise(seed)) for seed in range(30 * workers)])
    await answers(pool, [Job(task="ocr", image=PAGE)] * (2 * workers))
    show("full")
    await pool.stop(drain_seconds=10)


async def print_overhead(jobs: int) -> None:
    """Time and CPU of a job through the pool beside the same call of the core, one at a time."""
    session = native.Session(native.Engine(str(find_model(DEFAULT_MODEL))), threads=1)
    pool = WorkerPool(PoolSettings(workers=1))
    await pool.start()
    job = Job(task="embed_text", arguments={"text": "a cat"})
    direct, through, front_cpu = [], [], 0.0
    for _ in range(jobs):
        start = time.perf_counter()
        session.embed_text("a cat")
        direct.append(time.perf_counter() - start)
        start, cpu = time.perf_counter(), time.process_time()
        await answers(pool, [job])
        through.append(time.perf_counter() - start)
        front_cpu += time.process_time() - cpu
    milliseconds = [1000 * statistics.median(times) for times in (direct, through)]
    print(f"embed_text, medians of {jobs}: core {milliseconds[0]:.3f} ms, through the pool {milliseconds[1]:.3f} ms")
    print(f"CPU of the front {1000 * front_cpu / jobs:.3f} ms a job")
    await pool.stop(drain_seconds=10)


def print_batches(rounds: int) -> None:
    """CPU time a caption on one thread, by the size of the batch."""
    engine = native.Engine(str(find_model(DEFAULT_MODEL)))
    session = native.Session(engine, threads=1, feature_cache_bytes=0)
    files = sorted((EXAMPLES / "pictures").glob("*.jpg"))[:8]
    pictures = [native.resize(load_image(file), engine.image_size, engine.image_size) for file in files] * 2
    times: dict[int, list[float]] = {size: [] for size in (1, 2, 4, 8, 16)}
    for _ in range(rounds):
        for size, taken in times.items():
            start = time.process_time()
            for first in range(0, len(pictures), size):
                session.caption_batch(pictures[first : first + size])
            taken.append(1000 * (time.process_time() - start) / len(pictures))
    for size, taken in times.items():
        print(f"batches of {size:2}: {statistics.median(taken):.2f} ms CPU a caption, best {min(taken):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    for workers in (2, 4):
        asyncio.run(print_memory(workers))
    asyncio.run(print_overhead(arguments.jobs))
    print_batches(arguments.rounds)


if __name__ == "__main__":
    main()
