"""The contestant's side: one engine behind a pipe, a line in is a turn, a line out its times: `-m race.turns TASK`."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

TURN_PAUSE_SECONDS = 0.01


def main() -> None:
    """Pins the process before any library starts threads, opens the engine and serves turns until the pipe closes."""
    task = json.loads(sys.argv[1])
    os.sched_setaffinity(0, task["cpus"])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    import numpy as np
    from race.engine import open_engine

    engine = open_engine(task["factory"], task["options"])

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    answer({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "answer":
            np.savez(request["file"], **engine.answer())
            answer({})
            continue
        wall: dict[str, list[float]] = {}
        cpu: dict[str, list[float]] = {}
        time.sleep(TURN_PAUSE_SECONDS)  # threads of the one before may still be going to sleep
        for workload, runs in request["runs"].items():
            wall[workload], cpu[workload] = [], []
            engine.warm_up(workload)
            for _ in range(runs):
                engine.prepare(workload)
                start, cpu_start = time.perf_counter(), time.process_time()
                engine.run(workload)
                wall[workload].append(time.perf_counter() - start)
                cpu[workload].append(time.process_time() - cpu_start)
        answer({"wall": wall, "cpu": cpu})


if __name__ == "__main__":
    main()
