"""Declares and checks the options that every evaluation takes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mobile_multimodal.errors import InvalidInputError, NotFoundError
from mobile_multimodal.model.hub import DEFAULT_MODEL


def add_shared_arguments(parser: argparse.ArgumentParser, data_help: str) -> None:
    """--data, --model, --compare, --threads, --limit, --seed, --html, --json."""
    parser.add_argument("--data", required=True, type=Path, help=data_help)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file (default: %(default)s)")
    parser.add_argument(
        "--compare", metavar="FILE", help="a second model on the same pictures: adds its rows and the paired difference"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="0 is every CPU")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with scores and pictures, failures first"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def check_shared_arguments(arguments: argparse.Namespace) -> None:
    """Refuses before a model is loaded what cannot work."""
    if not arguments.data.is_dir():
        raise NotFoundError(f"the data folder {arguments.data} is not there", hint="pass the data set with --data")
    if arguments.limit < 0:
        raise InvalidInputError(f"option --limit is {arguments.limit}, expected 0 or more", hint="0 is all pictures")


def show_progress(done: int, total: int) -> None:
    """Counts pictures on a terminal."""
    if sys.stderr.isatty() and (done % 10 == 0 or done == total):
        print(f"\r{done}/{total} pictures", end="\n" if done == total else "", file=sys.stderr, flush=True)
