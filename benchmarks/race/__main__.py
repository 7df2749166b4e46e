"""Runs the race of this project against its peers: `scripts/bench`. Tables go to stdout, progress to stderr."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from race.peers import PeerList
from race.preparation import make_all
from race.records import PREFIX, write_record
from race.rounds import progress
from race.settings import RaceSettings
from race.tables import part_tables
from record import ROOT, circumstances

from mobile_multimodal import find_model, native
from mobile_multimodal.model.hub import DEFAULT_MODEL

PARTS = {
    "language": "language.race_part",
    "vision": "vision.race_part",
    "tasks": "tasks.race_part",
    "memory": "memory.race_part",
    "kernels": "kernels.race_part",
}
_BUSY = 0.7  # processes that wait for a CPU, on average over the last minute
PACKAGES = (
    "mobile-multimodal",
    "numpy",
    "llama-cpp-python",
    "onnxruntime",
    "openvino",
    "torch",
    "rapidocr",
    "opencv-python-headless",
    "gguf",
)


def main() -> int:
    """Measures the chosen parts; 0 when all ended with a record."""
    arguments = _arguments()
    settings = RaceSettings(find_model(arguments.model), tuple(arguments.threads), arguments.quick, arguments.effort)
    if arguments.prepare:
        peers = PeerList()
        make_all(peers)
        for peer, command in peers.missing.items():
            progress(f"race: {peer} is not installed. hint: {command}")
        return 0
    if (load := os.getloadavg()[0]) > _BUSY:
        progress(f"race: others use this machine (load {load:.1f}): engines whose threads meet often lose most by it")
    records, failed = [], []
    for name in arguments.only:
        try:
            record = _measured(name, settings)
            if arguments.output is not None:
                progress(f"written to {write_record(record, arguments.output)} after {record['seconds']:.0f} s")
        except (Exception, SystemExit) as error:  # the other parts are worth having
            progress("".join(traceback.format_exception(error)[-3:]))
            progress(f"race: the part `{name}` failed: {error}")
            failed.append(name)
            continue
        records.append(record)
        _show(name, record, arguments.json)
    if arguments.json:
        print(json.dumps(records, indent=1))
    return 1 if failed else 0


def _measured(name: str, settings: RaceSettings) -> dict[str, Any]:
    """The record of a part."""
    peers = PeerList()
    record = circumstances(f"{PREFIX}{name}", "scripts/bench", PACKAGES)
    begin = time.perf_counter()
    part = importlib.import_module(PARTS[name]).measure(settings, peers)
    return record | {
        "seconds": round(time.perf_counter() - begin, 1),
        "load_average_after": os.getloadavg()[0],
        "is_quick": settings.is_quick,
        "effort": settings.effort,
        "peer_builds": _peer_builds(peers),
        "model": {"file": settings.model.name, "bytes": settings.model.stat().st_size},
        "missing_peers": peers.missing,
        "part": part,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="below two minutes: ratios for a change, nothing is written"
    )
    parser.add_argument("--only", metavar="PART,PART", help=f"some of {','.join(PARTS)}")
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="N", help="default: 1 and 2; quick: as many as there are"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="captioning model, name or .gguf file")
    parser.add_argument("--effort", type=float, default=1.0, metavar="X", help="times as long, or a part of it")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="of records (benchmarks/results; quick: none)")
    parser.add_argument("--json", action="store_true", help="records on stdout instead of tables")
    parser.add_argument("--prepare", action="store_true", help="only make and download the files that a race needs")
    arguments = parser.parse_args()
    usable = min(2, len(os.sched_getaffinity(0)))
    arguments.threads = arguments.threads or ([usable] if arguments.quick else sorted({1, usable}))
    arguments.only = list(PARTS) if arguments.only is None else arguments.only.split(",")
    if unknown := [name for name in arguments.only if name not in PARTS]:
        parser.error(f"unknown part {', '.join(unknown)}, expected some of {', '.join(PARTS)}")
    if arguments.output is None and not arguments.quick:
        arguments.output = ROOT / "benchmarks/results"
    return arguments


def _show(name: str, record: dict[str, Any], as_json: bool) -> None:
    for peer, command in record["missing_peers"].items():
        progress(f"race: left out of `{name}`: {peer} is not installed. hint: {command}")
    if not as_json:
        print(f"\n## {name}: {record['cpu']}, {native.isa()}, load {record['load_average_before']:.1f} before\n")
        print("\n".join(part_tables(record["part"])), flush=True)


def _peer_builds(peers: PeerList) -> dict[str, str]:
    """What llama.cpp was compiled for."""
    if not peers.has("llama.cpp"):
        return {}
    import llama_cpp

    return {"llama.cpp": llama_cpp.llama_print_system_info().decode().strip()}


if __name__ == "__main__":
    sys.exit(main())
