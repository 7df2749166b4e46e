"""Answers a question about each picture: `mobile-mm ask PATH QUESTION`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from mobile_multimodal.cli.picture_paths import expand_picture_paths
from mobile_multimodal.cli.progress import ProgressBar
from mobile_multimodal.cli.report import PictureResult, Report
from mobile_multimodal.errors import MobileMultiModalError
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.settings import MAX_DEADLINE_SECONDS, check_integer, check_number
from mobile_multimodal.tasks.language import MAX_ANSWERS, check_options, check_text
from mobile_multimodal.tasks.latency_budget import check_latency_budget
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM

_DEFAULT_TOP_K = 5


@dataclass(frozen=True)
class ChosenOption:
    """The likeliest of the options, and how likely each is."""

    probabilities: dict[str, float]

    def __str__(self) -> str:
        return max(self.probabilities, key=self.probabilities.__getitem__)

    def to_dict(self) -> dict[str, Any]:
        """The fields of an answer, as far as a choice has them."""
        ranked = sorted(self.probabilities.items(), key=lambda entry: -entry[1])
        return {
            "text": ranked[0][0],
            "confidence": ranked[0][1],
            "alternatives": [{"text": text, "probability": probability} for text, probability in ranked],
        }


def add_ask_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm ask` takes."""
    parser.add_argument("path", metavar="PATH", help="a picture, a folder of pictures, or a pattern in quotes")
    parser.add_argument("question", metavar="QUESTION", help="in English, in quotes")
    parser.add_argument("--options", nargs="+", metavar="TEXT", help="choose one of these, 2 to 64")
    parser.add_argument("--json", action="store_true", help="print one JSON object a picture, failures included")
    parser.add_argument(
        "--top-k", type=int, metavar="N", help=f"so many answers in the JSON, 1 to {MAX_ANSWERS} ({_DEFAULT_TOP_K})"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="0 is every CPU (the default)")
    parser.add_argument(
        "--latency-budget-ms", type=float, metavar="MS", help="say in the JSON whether each answer took at most this"
    )
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="give up on a picture after this long")


def run_ask(arguments: argparse.Namespace) -> int:
    """Prints answers to stdout and failures to stderr; returns the exit code."""
    # What is wrong is refused before a model is loaded.
    check_text("question", arguments.question)
    options = None if arguments.options is None else check_options(arguments.options)
    top_k = _DEFAULT_TOP_K if arguments.top_k is None else arguments.top_k
    check_integer("top_k", top_k, 1, MAX_ANSWERS)
    deadline = 0.0 if arguments.deadline is None else arguments.deadline
    check_number("deadline_seconds", deadline, 0.0, MAX_DEADLINE_SECONDS)
    budget = arguments.latency_budget_ms
    if budget is not None:
        check_latency_budget(budget)
    entries = expand_picture_paths([arguments.path])
    report = Report(as_json=arguments.json, pictures=len(entries))
    with (
        MobileMultiModalLLM.from_pretrained(arguments.model, threads=arguments.threads) as model,
        ProgressBar("answers", len(entries)) as progress,
    ):
        report.progress = progress
        for entry in entries:
            if isinstance(entry, tuple):
                report.failure(*entry)
                continue
            try:
                result: PictureResult
                if options is None:
                    result = model.answer_question(
                        entry, arguments.question, top_k=top_k, latency_budget_ms=budget, deadline_seconds=deadline
                    )
                else:
                    chosen = model.choose(
                        entry, arguments.question, options, latency_budget_ms=budget, deadline_seconds=deadline
                    )
                    result = ChosenOption(chosen)
                report.result(entry, result)
            except MobileMultiModalError as error:
                report.failure(entry, error)
    return report.exit_code()
