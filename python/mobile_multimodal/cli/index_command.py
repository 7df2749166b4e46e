"""Makes a folder of pictures searchable: `mobile-mm index FOLDER`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mobile_multimodal.cli.index_place import remember_index
from mobile_multimodal.cli.progress import ProgressBar
from mobile_multimodal.cli.report import EXIT_SOME_FAILED
from mobile_multimodal.errors import MissingExtraError, MobileMultiModalError
from mobile_multimodal.gallery import INDEX_NAME, Gallery, GalleryStatus, IndexReport
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM


def add_index_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm index` takes."""
    parser.add_argument("folder", metavar="FOLDER", help="every picture below it is indexed")
    parser.add_argument("--index", metavar="FILE", help=f"where the index lies (default: {INDEX_NAME} in FOLDER)")
    parser.add_argument("--remove", action="store_true", help="forget pictures whose file is gone")
    parser.add_argument("--json", action="store_true", help="print what was done as one JSON object")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="0 is every CPU (the default)")


def run_index(arguments: argparse.Namespace) -> int:
    """Prints what was done to stdout and failures to stderr; returns the exit code."""
    with (
        MobileMultiModalLLM.from_pretrained(arguments.model, threads=arguments.threads, profile="balanced") as model,
        Gallery.create(arguments.folder, model, index=arguments.index) as gallery,
    ):
        report = _update(gallery, arguments.remove)
        try:
            gallery.extend_graph()
        except MissingExtraError as error:  # searches stay exact, only slower
            print(f"mobile-mm: {error}", file=sys.stderr)
        status = gallery.status()
    remember_index(Path(status.index))
    if arguments.json:
        print(json.dumps(report.to_dict() | {"gallery": status.to_dict()}, ensure_ascii=False))
    else:
        print(_sentence(report, status))
    return EXIT_SOME_FAILED if report.failures else 0


def _update(gallery: Gallery, remove: bool) -> IndexReport:
    bar: ProgressBar | None = None

    def start(total: int) -> None:
        nonlocal bar
        bar = ProgressBar("pictures", total)

    def show(path: Path, outcome: str | MobileMultiModalError) -> None:
        assert bar is not None
        if isinstance(outcome, MobileMultiModalError):
            bar.clear()
            print(f"mobile-mm: {outcome}", file=sys.stderr, flush=True)
        bar.advance()

    try:
        return gallery.update(remove=remove, on_start=start, on_result=show)
    finally:
        if bar is not None:
            bar.clear()


def _sentence(report: IndexReport, status: GalleryStatus) -> str:
    counts = {name: getattr(report, name) for name in ("added", "changed", "moved", "copies", "unchanged", "removed")}
    done = [f"{count} {name}" for name, count in counts.items() if count]
    if report.failures:
        done.append(f"{len(report.failures)} failed")
    return f"{status.pictures} pictures in {status.index}: {', '.join(done) or 'nothing to do'}, {report.seconds:.1f} s"
