"""Measures model files: `mobile-mm evaluate TASK --data FOLDER [--model FILE] [--compare FILE2] [--json]`."""

from __future__ import annotations

import argparse
import importlib
from typing import Final

from mobile_multimodal.errors import MissingExtraError
from mobile_multimodal.evaluation import caption_command, ocr_command, retrieval_command, vqa_command
from mobile_multimodal.evaluation.arguments import check_shared_arguments

# Each module has add_arguments(parser), run(arguments) -> exit code, and METRICS: the module that needs the extra.
TASKS: Final = {
    "caption": (caption_command, "sentences: CIDEr-D, BLEU-4, ROUGE-L"),
    "vqa": (vqa_command, "answers to questions: accuracy by kind, calibration"),
    "retrieval": (retrieval_command, "search by sentence and by picture: recall at 1, 5 and 10"),
    "ocr": (ocr_command, "text: character error rate, detection of lines"),
}


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm evaluate` takes."""
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK", help="what is measured")
    for name, (module, summary) in TASKS.items():
        module.add_arguments(tasks.add_parser(name, help=summary, description=f"Scores {summary}."))


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Prints the metrics with 95 % intervals; returns the exit code."""
    module = TASKS[arguments.task][0]
    try:
        importlib.import_module(module.METRICS)
    except ImportError as error:
        raise MissingExtraError(
            f"the metrics need the package {error.name}", hint="install it: pip install 'mobile-multimodal[train]'"
        ) from error
    check_shared_arguments(arguments)
    code: int = module.run(arguments)
    return code
