"""Prints a sentence about each picture: `mobile-mm caption PATH...`."""

from __future__ import annotations

import argparse
from typing import cast

from mobile_multimodal.cli.picture_paths import expand_picture_paths
from mobile_multimodal.cli.progress import ProgressBar
from mobile_multimodal.cli.report import Report
from mobile_multimodal.errors import InvalidInputError, MobileMultiModalError
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.settings import PROFILES, GenerationOptions, GenerationSettings, settings_from
from mobile_multimodal.tasks.latency_budget import check_latency_budget
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM


def add_caption_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm caption` takes."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a picture, a folder of pictures, or a pattern in quotes"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, failures included")
    parser.add_argument("--stream", action="store_true", help="print each word when it is written (greedy search)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file (default: %(default)s)")
    parser.add_argument("--profile", default="balanced", help=f"one of {', '.join(PROFILES)} (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="0 is every CPU (default: what the profile says)")
    parser.add_argument("--batch", type=int, metavar="N", help="pictures written side by side, 1 to 16 (default: 4)")
    parser.add_argument("--beams", type=int, metavar="N", help="width of the search; 1 is greedy")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="at most this many pieces of words")
    parser.add_argument("--length-penalty", type=float, metavar="X", help="above 0 favours longer sentences")
    parser.add_argument("--temperature", type=float, metavar="X", help="above 0 draws words at random")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help="draw from the likeliest words of this total probability"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed draws the same words")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; may be repeated")
    parser.add_argument(
        "--latency-budget-ms", type=float, metavar="MS", help="choose the beams so that each picture takes at most this"
    )
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="give up on a picture after this long")


def run_caption(arguments: argparse.Namespace) -> int:
    """Prints captions to stdout and failures to stderr; returns the exit code."""
    options = _generation_options(arguments)
    settings_from(GenerationSettings, options)  # a wrong setting is refused before a model is loaded
    if arguments.stream and arguments.json:
        raise InvalidInputError("options --stream and --json exclude each other", "drop one of them")
    if arguments.stream and arguments.beams not in (None, 1):
        raise InvalidInputError(
            f"option --beams is {arguments.beams}, expected 1 with --stream", "drop --stream for beam search"
        )
    if arguments.stream and arguments.batch is not None:
        raise InvalidInputError("options --stream and --batch exclude each other", "drop one of them")
    if arguments.latency_budget_ms is not None:
        check_latency_budget(arguments.latency_budget_ms)
        if arguments.stream:
            raise InvalidInputError("options --stream and --latency-budget-ms exclude each other", "drop one of them")
    entries = expand_picture_paths(arguments.paths)
    report = Report(as_json=arguments.json, pictures=len(entries))
    with (
        MobileMultiModalLLM.from_pretrained(
            arguments.model, threads=arguments.threads, profile=arguments.profile
        ) as model,
        ProgressBar("captions", len(entries)) as progress,
    ):
        report.progress = progress
        paths = []
        for entry in entries:
            if isinstance(entry, tuple):
                report.failure(*entry)
            else:
                paths.append(entry)
        if arguments.stream:
            for path in paths:
                _stream(model, path, options, report)
        else:
            model.generate_captions(
                paths,
                on_error="return",
                batch_size=arguments.batch,
                latency_budget_ms=arguments.latency_budget_ms,
                on_result=lambda index, result: report.result(paths[index], result),
                **options,
            )
    return report.exit_code()


def _generation_options(arguments: argparse.Namespace) -> GenerationOptions:
    values = {
        "num_beams": arguments.beams,
        "max_new_tokens": arguments.max_tokens,
        "length_penalty": arguments.length_penalty,
        "temperature": arguments.temperature,
        "top_p": arguments.top_p,
        "seed": arguments.seed,
        "stop": arguments.stop,
        "deadline_seconds": arguments.deadline,
    }
    return cast(GenerationOptions, {name: value for name, value in values.items() if value is not None})


def _stream(model: MobileMultiModalLLM, path: str, options: GenerationOptions, report: Report) -> None:
    try:
        with model.stream_caption(path, **options) as stream:
            report.begin_stream(path)
            for piece in stream:
                print(piece, end="", flush=True)
            print(flush=True)
            report.advance()
    except MobileMultiModalError as error:
        report.failure(path, error)
