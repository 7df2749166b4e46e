"""Runs one task at one operating point in a process of its own; prints results, times, CPU times, peak memory as JSON.

Called by adaptive_benchmark.py with one JSON object: task, threads, options, inputs (a file).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.model.hub import DEFAULT_MODEL


def run(model: MobileMultiModalLLM, task: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    """One call; what of its result is scored."""
    if task == "caption":
        return str(model.generate_caption(arguments[0], **options))
    if task == "read_text":
        return [[line.text, line.box] for line in model.extract_text(arguments[0], **options).lines]
    if task == "choose":
        chosen = model.choose(arguments[0], arguments[1], arguments[2])
        return max(chosen, key=chosen.__getitem__)
    return model.embed_image(arguments[0]).shape[0]


def main() -> None:
    """Every input once, after a first one that is not counted."""
    task = json.loads(sys.argv[1])
    inputs = json.loads(Path(task["inputs"]).read_text(encoding="utf-8"))
    with MobileMultiModalLLM.from_pretrained(DEFAULT_MODEL, threads=task["threads"], enable_caching=False) as model:
        run(model, task["task"], inputs[0], task["options"])
        results, wall, cpu = [], [], []
        for arguments in inputs:
            start, cpu_start = time.perf_counter(), time.process_time()
            results.append(run(model, task["task"], arguments, task["options"]))
            wall.append((time.perf_counter() - start) * 1000)
            cpu.append((time.process_time() - cpu_start) * 1000)
    # VmHWM, not getrusage: after a fork, getrusage still counts the parent's peak.
    status = Path("/proc/self/status").read_text(encoding="utf-8").split("\n")
    peak = next(line for line in status if line.startswith("VmHWM")).split()[1]
    print(json.dumps({"results": results, "wall_ms": wall, "cpu_ms": cpu, "peak_mb": int(peak) / 1000}))


if __name__ == "__main__":
    main()
