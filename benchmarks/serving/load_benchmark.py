"""Measures `mobile-mm serve` under load: each task at 0.5, 1 and 2 times its capacity, then caches, then its peers.

    python benchmarks/serving/load_benchmark.py --pictures FOLDER          about 15 minutes
    python benchmarks/serving/load_benchmark.py --pictures FOLDER --quick  about one

The client runs on the same machine and takes part of its processors: `usage` in the record says how much.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import arrivals  # noqa: E402
import caches  # noqa: E402
import peers  # noqa: E402
import uvloop  # noqa: E402
from process_usage import UsageWatch  # noqa: E402
from record import circumstances  # noqa: E402
from request_bodies import RequestBodies, drawn_pages, picture_body, pictures_in  # noqa: E402
from server_process import ROOT, ServerProcess  # noqa: E402
from summaries import memory_over_time, over_time, summary, usage  # noqa: E402

TASKS = ("caption", "ocr", "ask", "embed")
LOADS = (0.5, 1.0, 2.0)
CLIENTS = 24  # in a closed loop: enough to fill a batch of 8 on each of two workers, and the next ones
PACKAGES = ("mobile-multimodal", "fastapi", "uvicorn", "uvloop", "pydantic", "aiohttp", "numpy", "Pillow")


def main() -> None:
    """Runs every phase and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=ROOT / "examples/pictures", help="folder of pictures to send")
    parser.add_argument("--seconds", type=float, default=50.0, help="of each task and load (default: 50)")
    parser.add_argument("--quick", action="store_true", help="a smoke run of about a minute: phases of 2 seconds")
    parser.add_argument("--tasks", default=",".join(TASKS), help="with commas (default: all four)")
    parser.add_argument("--no-peers", action="store_true", help="leave out the plain handler and llama.cpp")
    parser.add_argument("--llama-server", type=Path, metavar="PROGRAM", help="llama.cpp's server, for the HTTP part")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/serving-<date>-<commit>.json")
    parser.add_argument("server", nargs="*", help="after --: settings for mobile-mm serve, as its flags")
    arguments = parser.parse_args()
    tasks = tuple(arguments.tasks.split(","))
    if unknown := set(tasks) - set(TASKS):
        parser.error(f"unknown task {', '.join(sorted(unknown))}; known: {', '.join(TASKS)}")

    record = circumstances("serving", "python benchmarks/serving/load_benchmark.py", PACKAGES)
    record["command"] = _without_paths(record["command"], arguments)
    record["priority_of_the_client"] = _hurry()
    pictures = pictures_in(arguments.pictures)
    bodies = RequestBodies(pictures, drawn_pages(16 if arguments.quick else 256))
    record["material"] = {
        "pictures": len(pictures),
        "mean_picture_bytes": sum(map(len, pictures)) // len(pictures),
        "pages": 16 if arguments.quick else 256,
    }
    record |= uvloop.run(Plan(arguments, tasks, bodies, pictures).run())
    name = f"serving-{record['date'][:10]}-{record['commit']}{'-quick' if arguments.quick else ''}.json"
    output = arguments.output or ROOT / "benchmarks/results" / name
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {output}", file=sys.stderr)


class Plan:
    """The phases, one after the other."""

    def __init__(
        self, arguments: argparse.Namespace, tasks: tuple[str, ...], bodies: RequestBodies, pictures: list[bytes]
    ) -> None:
        self.arguments = arguments
        self.tasks = tasks
        self.bodies = bodies
        self.pictures = pictures
        self.seconds = 1.5 if arguments.quick else arguments.seconds
        self.short_seconds = 1.5 if arguments.quick else 10.0

    async def run(self) -> dict[str, Any]:
        """Everything; the server is one process from the first phase to the last, so that its memory can be seen."""
        found: dict[str, Any] = {"server_settings": self.arguments.server, "seconds_of_a_phase": self.seconds}
        with ServerProcess(self.arguments.server) as server:
            found["model"] = server.stats()["model"]
            await asyncio.sleep(1)
            with UsageWatch(lambda: [*server.pids(), os.getpid()]) as watch:
                found["capacity_per_second"] = await self._capacities(server)
                found["loads"] = await self._loads(server, found["capacity_per_second"], watch)
                found["identical_picture"] = await self._identical(server)
                await asyncio.sleep(3)  # connections that the client has closed are closed here as well
            found["memory"] = memory_over_time(watch.samples, server.pid, os.getpid())
            found["files_of_the_front"] = {
                "first": watch.samples[0]["processes"][server.pid]["files"],
                "last": watch.samples[-1]["processes"][server.pid]["files"],
            }
            found["worker_restarts"] = sum(worker["restarts"] for worker in server.stats()["workers"])
        _say("zipf workload")
        found["zipf"] = await caches.zipf(self.pictures, self.arguments.server, self.short_seconds * 2)
        if not self.arguments.no_peers:
            _say("plain handler")
            found["plain_handler"] = await peers.plain_handler(
                self.bodies,
                self.tasks[:1] if self.arguments.quick else self.tasks,
                found["capacity_per_second"],
                self.short_seconds,
            )
            _say("the HTTP part alone")
            found["http_part"] = await peers.http_part(
                self.pictures[0], self.arguments.llama_server, self.short_seconds
            )
        return found

    async def _capacities(self, server: ServerProcess) -> dict[str, float]:
        """Answers a second of each task with as many clients as keep every worker busy."""
        found = {}
        async with arrivals.client() as session:
            for task in self.tasks:
                url = f"{server.api}/v1/{task}"
                await arrivals.closed_loop(session, url, self.bodies.bodies(task), CLIENTS, 1.0)  # to warm up
                outcomes = await arrivals.closed_loop(
                    session, url, self.bodies.bodies(task), CLIENTS, self.short_seconds
                )
                found[task] = summary(outcomes, self.short_seconds)["answered_per_second"]
                _say(f"{task}: {found[task]:.1f} a second")
        return found

    async def _loads(
        self, server: ServerProcess, capacity: dict[str, float], watch: UsageWatch
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for task in self.tasks:
            for load in LOADS:
                first_sample = len(watch.samples) - 1
                async with arrivals.client() as session:
                    outcomes = await arrivals.open_arrivals(
                        session,
                        f"{server.api}/v1/{task}",
                        self.bodies.bodies(task),
                        capacity[task] * load,
                        self.seconds,
                        seed=len(found),
                    )
                found.append(
                    {"task": task, "load": load, "rate_per_second": round(capacity[task] * load, 2)}
                    | summary(outcomes, self.seconds)
                    | {
                        "usage": usage(watch.samples[first_sample:], server.pid, os.getpid()),
                        "over_time": over_time(outcomes),
                    }
                )
                _say(f"{task} at {load}: {_line(found[-1])}")
                await asyncio.sleep(0.5)
        return found

    async def _identical(self, server: ServerProcess) -> dict[str, Any]:
        """Everybody asks about the same picture: what the response cache is for, apart from the loads above."""
        body = picture_body(self.pictures[0])
        async with arrivals.client() as session:
            outcomes = await arrivals.closed_loop(
                session, f"{server.api}/v1/caption", iter(lambda: body, b""), CLIENTS, self.short_seconds
            )
        found = summary(outcomes, self.short_seconds) | {"clients": CLIENTS}
        _say(f"identical picture: {_line(found)}")
        return found


def _hurry() -> int:
    """The client's priority: above the servers', or it would wait for them and be late; in life it has its own CPUs."""
    with contextlib.suppress(PermissionError):  # the record says so
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    return os.getpriority(os.PRIO_PROCESS, 0)


def _without_paths(command: str, arguments: argparse.Namespace) -> str:
    """The command as a reader repeats it: paths of this machine mean nothing elsewhere."""
    paths = {"PICTURES": arguments.pictures, "LLAMA_SERVER": arguments.llama_server, "OUTPUT": arguments.output}
    for name, value in paths.items():
        if value is not None:
            command = command.replace(str(value), name)
    return command


def _line(found: dict[str, Any]) -> str:
    return (
        f"sent {found['sent_per_second']}/s, answered {found['answered_per_second']}/s, "
        f"{found['answered_milliseconds']}, {found['by_status']}, refused {found.get('refused_milliseconds', '-')}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
