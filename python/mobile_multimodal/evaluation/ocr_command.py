"""Measures reading: `mobile-mm evaluate ocr --data FOLDER [--model FILE] [--compare FILE2] [--json] [--html FILE]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mobile_multimodal.evaluation.arguments import add_shared_arguments, show_progress
from mobile_multimodal.evaluation.ocr_pages import PageFolder
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM

if TYPE_CHECKING:
    from mobile_multimodal.evaluation.bootstrap import Interval
    from mobile_multimodal.evaluation.ocr import OcrEvaluation

METRICS: Final = "mobile_multimodal.evaluation.ocr_metrics"

_LABELS: Final = {
    "cer": "CER",
    "line_cer": "CER of matched lines",
    "precision": "detection precision",
    "recall": "detection recall",
    "f1": "detection F1",
    "exact_lines": "lines without an error",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm evaluate ocr` takes."""
    add_shared_arguments(parser, "folder with pages.jsonl and its pictures")
    parser.add_argument("--readings", type=Path, metavar="FILE", help="write what was read there, a JSON object a page")


def run(arguments: argparse.Namespace) -> int:
    """Prints the metrics with 95 % intervals; returns the exit code."""
    from mobile_multimodal.evaluation.ocr_metrics import compare_scores

    result = _evaluate(arguments, arguments.model)
    other = None if arguments.compare is None else _evaluate(arguments, arguments.compare)
    differences = {} if other is None else compare_scores(result.scores, other.scores, arguments.seed)
    if arguments.readings is not None:
        _write_readings(arguments.readings, result)
    if arguments.html is not None:
        from mobile_multimodal.evaluation.ocr_report import write_ocr_report

        models = [(str(arguments.model), result)] + ([] if other is None else [(str(arguments.compare), other)])
        write_ocr_report(arguments.html, models, differences)
    if arguments.json:
        print(json.dumps(_as_dict(arguments, result, other, differences)))
    else:
        _print_scores(arguments, result, other, differences)
    return 0


def _evaluate(arguments: argparse.Namespace, model_name: str) -> OcrEvaluation:
    from mobile_multimodal.evaluation.ocr import evaluate_reader

    with MobileMultiModalLLM.from_pretrained(model_name, threads=arguments.threads, profile="balanced") as model:
        return evaluate_reader(model, PageFolder(arguments.data), arguments.limit, arguments.seed, show_progress)


def _write_readings(path: Path, result: OcrEvaluation) -> None:
    with path.open("w", encoding="utf-8") as file:
        for page, lines in zip(result.pages, result.readings, strict=True):
            entry = {"picture": page.picture.name, "lines": [asdict(line) for line in lines]}
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _as_dict(
    arguments: argparse.Namespace,
    result: OcrEvaluation,
    other: OcrEvaluation | None,
    differences: dict[str, Interval],
) -> dict[str, object]:
    content = {"model": str(arguments.model), **_evaluation_as_dict(result)}
    if other is not None:
        content["compare"] = {"model": str(arguments.compare), **_evaluation_as_dict(other)}
        content["difference"] = {name: asdict(interval) for name, interval in differences.items()}
    return content


def _evaluation_as_dict(result: OcrEvaluation) -> dict[str, object]:
    parts = {"by_language": result.by_language, "by_kind": result.by_kind}
    return {
        **result.scores.as_dict(),
        **{part: {name: scores.as_dict() for name, scores in every.items()} for part, every in parts.items()},
    }


def _print_scores(
    arguments: argparse.Namespace,
    result: OcrEvaluation,
    other: OcrEvaluation | None,
    differences: dict[str, Interval],
) -> None:
    print(f"{result.scores.pictures} pictures, 95 % bootstrap intervals over pictures")
    for name, evaluation in ((arguments.model, result), (arguments.compare, other)):
        if evaluation is None:
            continue
        if other is not None:
            print(name)
        for metric, label in _LABELS.items():
            print(f"{label:24}{getattr(evaluation.scores, metric).percent()}")
    if other is not None:
        print("first minus second, paired")
        for metric, interval in differences.items():
            print(f"{_LABELS[metric]:24}{interval.percent()}")
        return
    for part in (result.by_language, result.by_kind):
        print()
        for name, scores in part.items():
            print(f"{name:12}{scores.pictures:4} pictures   CER {100 * scores.cer.value:6.2f} %"
                  f"   F1 {100 * scores.f1.value:6.2f} %")  # fmt: skip
