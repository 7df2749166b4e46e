"""Runs one reader over pages in a process of its own and prints what it read, the times and the peak of its memory.

Called by ocr_benchmark.py with one JSON object as argument: reader, threads, model, networks, pages, rounds, seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from readers import CoreReader, RapidReader, Reader, TesseractReader


def _reader(task: dict[str, Any]) -> Reader:
    if task["reader"].startswith("core"):
        return CoreReader(task["model"], task["threads"])
    if task["reader"] == "rapidocr":
        return RapidReader(task["networks"], task["threads"], task["batch_lines"], task["spinning"])
    return TesseractReader(task["threads"])


def main() -> None:
    """Reads every page once, then again until the rounds or the seconds are used up."""
    task = json.loads(sys.argv[1])
    start = time.perf_counter()
    reader = _reader(task)
    for language in {page["language"] for page in task["pages"]}:
        reader.prepare(language)
    ready = time.perf_counter() - start
    pages = [(Path(page["picture"]), page["language"]) for page in task["pages"]]
    reader.read(*pages[0])  # what is made at first use is not a page's time
    readings: list[Any] = []
    times: list[list[float]] = [[] for _ in pages]
    cpu_times: list[list[float]] = [[] for _ in pages]  # of all threads: bears a busy machine better than the clock
    begin = time.perf_counter()
    for done in range(task["rounds"]):
        if done > 0 and (time.perf_counter() - begin) * (done + 1) / done > task["seconds"]:
            break  # another round would not fit
        for index, page in enumerate(pages):
            before, cpu_before = time.perf_counter(), time.process_time()
            lines = reader.read(*page)
            times[index].append((time.perf_counter() - before) * 1000)
            cpu_times[index].append((time.process_time() - cpu_before) * 1000)
            if done == 0:
                readings.append(lines)
    status = Path("/proc/self/status").read_text(encoding="utf-8").split("\n")
    peak = next(line for line in status if line.startswith("VmHWM")).split()[1]
    result = {
        "readings": readings,
        "times_ms": times,
        "cpu_times_ms": cpu_times,
        "ready_ms": ready * 1000,
        "peak_mb": int(peak) / 1000,
    }
    result["version"] = reader.version()
    reader.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
