"""Prints a sentence about each picture of a sequence that differs from the one before: `mobile-mm watch PATH...`."""

from __future__ import annotations

import argparse
import json
import sys

from mobile_multimodal.cli.picture_paths import expand_picture_paths
from mobile_multimodal.cli.report import Report
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.settings import PROFILES, check_number
from mobile_multimodal.tasks.frames import CHANGE_THRESHOLD
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM


def add_watch_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm watch` takes."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a folder of pictures in the order of their names, or pictures"
    )
    parser.add_argument(
        "--change-threshold",
        type=float,
        default=CHANGE_THRESHOLD,
        metavar="X",
        help="mean difference in grey levels above which a picture is new; -1 takes each (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a picture that is new, or failed")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file (default: %(default)s)")
    parser.add_argument("--profile", default="balanced", help=f"one of {', '.join(PROFILES)} (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="0 is every CPU (default: what the profile says)")


def run_watch(arguments: argparse.Namespace) -> int:
    """Prints captions to stdout, failures and the rate to stderr; returns the exit code."""
    check_number("change_threshold", arguments.change_threshold, -1.0, 255.0)
    entries = expand_picture_paths(arguments.paths)
    report = Report(as_json=arguments.json, pictures=max(len(entries), 2))  # each line says whose it is
    paths = [entry for entry in entries if isinstance(entry, str)]
    for entry in entries:
        if isinstance(entry, tuple):
            report.failure(*entry)
    with (
        MobileMultiModalLLM.from_pretrained(
            arguments.model, threads=arguments.threads, profile=arguments.profile
        ) as model,
        model.caption_stream(paths, change_threshold=arguments.change_threshold, on_error="return") as stream,
    ):
        for frame in stream:
            path = paths[frame.index]
            if frame.error is not None:
                report.failure(path, frame.error)
            elif frame.result is not None and not frame.is_repeated:
                if arguments.json:
                    values = {"path": path, "frame": frame.index, **frame.result.to_dict()}
                    print(json.dumps(values, ensure_ascii=False), flush=True)
                else:
                    report.result(path, frame.result)
        done = stream.statistics
    print(
        f"{done.delivered} pictures, {done.repeated} like the one before, {done.failed} failed, "
        f"{done.frames_per_second:.1f} a second",
        file=sys.stderr,
    )
    return report.exit_code()
