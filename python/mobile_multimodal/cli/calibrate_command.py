"""Measures what each operating point takes on this machine: `mobile-mm calibrate`."""

from __future__ import annotations

import argparse
import json

from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.settings import PROFILES
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM


def add_calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm calibrate` takes."""
    parser.add_argument("--again", action="store_true", help="measure even what is known")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file (default: %(default)s)")
    parser.add_argument("--profile", default="balanced", help=f"one of {', '.join(PROFILES)} (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="0 is every CPU (default: what the profile says)")


def run_calibrate(arguments: argparse.Namespace) -> int:
    """Prints the table of operating points with their times; returns the exit code."""
    with MobileMultiModalLLM.from_pretrained(
        arguments.model, threads=arguments.threads, profile=arguments.profile
    ) as model:
        points = model.calibrate(again=arguments.again)
        health = model.get_health_status()
        kept_in = model.calibration_file
    if arguments.json:
        content = {
            "model": health.model,
            "isa": health.isa,
            "threads": health.threads,
            "kept_in": None if kept_in is None else str(kept_in),
            "points": [point.to_dict() for point in points],
        }
        print(json.dumps(content, ensure_ascii=False))
        return 0
    print(f"{health.model}, {health.isa}, threads {health.threads}")
    print(f"{'task':16} {'operating point':15} {'at rest':>10} {'as seen':>10}  work")
    for point in points:
        times = f"{point.rest_ms:7.1f} ms {point.predicted_ms:7.1f} ms"
        print(f"{point.task:16} {point.operating_point:15} {times}  {point.work}")
    print("kept in memory only" if kept_in is None else f"kept in {kept_in}")
    return 0
