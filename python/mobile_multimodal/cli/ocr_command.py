"""Prints the text in each picture: `mobile-mm ocr PATH...`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final, cast

from PIL import Image, ImageDraw

from mobile_multimodal.cli.picture_paths import expand_picture_paths
from mobile_multimodal.cli.progress import ProgressBar
from mobile_multimodal.cli.report import Report
from mobile_multimodal.errors import InvalidInputError, MobileMultiModalError
from mobile_multimodal.images import Pixels, load_image
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.settings import PROFILES, OcrOptions, OcrSettings, settings_from
from mobile_multimodal.tasks.latency_budget import check_latency_budget
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM
from mobile_multimodal.tasks.ocr import OcrResult

_DRAWING_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")
_BOX_COLOR: Final = (220, 30, 60)
_PICTURE_SIDES_A_LINE: Final = 400  # lines as thick as 1/400 of the longer side: seen on a screen, hiding no letter


def add_ocr_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm ocr` takes."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a picture, a folder of pictures, or a pattern in quotes"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a picture, failures included")
    parser.add_argument(
        "--draw", metavar="OUT", help="save the picture with its boxes: a file for one picture, or a folder"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="0 is every CPU (default: what the profile says)")
    parser.add_argument("--profile", default="balanced", help=f"one of {', '.join(PROFILES)} (default: %(default)s)")
    parser.add_argument("--max-side", type=int, metavar="N", help="look for text at this size, up to 4096")
    parser.add_argument("--threshold", type=float, metavar="P", help="lower finds fainter text")
    parser.add_argument("--box-threshold", type=float, metavar="P", help="drop boxes below this mean probability")
    parser.add_argument("--unclip-ratio", type=float, metavar="X", help="how far boxes grow around their text")
    parser.add_argument("--min-confidence", type=float, metavar="P", help="leave out lines below")
    parser.add_argument(
        "--latency-budget-ms",
        type=float,
        metavar="MS",
        help="choose --max-side so that each picture takes at most this",
    )
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="give up on a picture after this long")


def run_ocr(arguments: argparse.Namespace) -> int:
    """Prints text to stdout and failures to stderr; returns the exit code."""
    options = _ocr_options(arguments)
    settings_from(OcrSettings, options)  # a wrong setting is refused before a model is loaded
    if arguments.latency_budget_ms is not None:
        check_latency_budget(arguments.latency_budget_ms)
    entries = expand_picture_paths(arguments.paths)
    drawings = _Drawings(arguments.draw, [entry for entry in entries if isinstance(entry, str)])
    report = Report(as_json=arguments.json, pictures=len(entries))
    with (
        MobileMultiModalLLM.from_pretrained(
            arguments.model, threads=arguments.threads, profile=arguments.profile
        ) as model,
        ProgressBar("texts", len(entries)) as progress,
    ):
        report.progress = progress
        for entry in entries:
            if isinstance(entry, tuple):
                report.failure(*entry)
                continue
            try:
                pixels = load_image(entry)
                result = model.extract_text(pixels, latency_budget_ms=arguments.latency_budget_ms, **options)
                drawings.save(entry, pixels, result)
            except MobileMultiModalError as error:
                report.failure(entry, error)
            else:
                report.result(entry, result)
    return report.exit_code()


def draw_boxes(pixels: Pixels, result: OcrResult) -> Image.Image:
    """A copy of the picture with an outline around each line."""
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    width = max(1, round(max(picture.size) / _PICTURE_SIDES_A_LINE))
    for line in result.lines:
        pen.line([*line.box, line.box[0]], fill=_BOX_COLOR, width=width, joint="curve")
    return picture


def _ocr_options(arguments: argparse.Namespace) -> OcrOptions:
    values = {
        "max_side": arguments.max_side,
        "threshold": arguments.threshold,
        "box_threshold": arguments.box_threshold,
        "unclip_ratio": arguments.unclip_ratio,
        "min_confidence": arguments.min_confidence,
        "deadline_seconds": arguments.deadline,
    }
    return cast(OcrOptions, {name: value for name, value in values.items() if value is not None})


class _Drawings:
    """Where each picture with boxes goes; checked before any work is done, and never over an input."""

    def __init__(self, out: str | None, paths: list[str]) -> None:
        self._targets: dict[str, Path] = {}
        if out is None:
            return
        target = Path(out)
        if target.is_dir() or out.endswith(("/", os.sep)) or not target.suffix:
            self._targets = _names_in(target, paths)
        elif target.suffix.lower() not in _DRAWING_SUFFIXES:
            raise InvalidInputError(
                f"option --draw is {out!r}, expected a folder or a file of type {', '.join(_DRAWING_SUFFIXES)}",
                "end the name in .png",
            )
        elif len(paths) > 1:
            raise InvalidInputError(
                f"option --draw is the file {out!r} for {len(paths)} pictures, expected a folder",
                f"name a folder, for example {str(target.with_suffix('')) + '/'!r}",
            )
        else:
            self._targets = dict.fromkeys(paths, target)
        inputs = {Path(path).resolve() for path in paths if "\0" not in path}
        for chosen in self._targets.values():
            if chosen.resolve() in inputs:
                raise InvalidInputError(
                    f"option --draw would overwrite the picture {str(chosen)!r}", "name another file or folder"
                )

    def save(self, path: str, pixels: Pixels, result: OcrResult) -> None:
        target = self._targets.get(path)
        if target is None:
            return
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            draw_boxes(pixels, result).save(target)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InvalidInputError(
                f"file {str(target)!r} cannot be written: {reason}", "name another file or folder with --draw"
            ) from error


def _names_in(folder: Path, paths: list[str]) -> dict[str, Path]:
    """`<folder>/<stem>.png`, numbered where two pictures share their stem."""
    targets: dict[str, Path] = {}
    taken: set[str] = set()
    for path in paths:
        stem = Path(path.replace("\0", "")).stem or "picture"
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name)
        targets[path] = folder / f"{name}.png"
    return targets
