"""Scores search: `mobile-mm evaluate retrieval --data FOLDER`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Final

from mobile_multimodal.evaluation.arguments import add_shared_arguments, show_progress
from mobile_multimodal.evaluation.bootstrap import Interval
from mobile_multimodal.evaluation.retrieval import (
    DEPTHS,
    DIRECTIONS,
    RetrievalEvaluation,
    evaluate_retrieval,
    recall_difference,
)
from mobile_multimodal.evaluation.retrieval_report import ReportModel, write_retrieval_report
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM

METRICS: Final = "mobile_multimodal.evaluation.retrieval"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm evaluate retrieval` takes."""
    add_shared_arguments(parser, "folder with images/ and captions_{split}.csv")
    parser.add_argument("--split", default="dev", help="which captions file (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Prints recall at 1, 5 and 10 in both directions; returns the exit code."""
    result = _evaluate(arguments, arguments.model)
    other = None if arguments.compare is None else _evaluate(arguments, arguments.compare)
    differences = None if other is None else _differences(arguments, result, other)
    models = [ReportModel(str(arguments.model), result)]
    if other is not None:
        models.append(ReportModel(str(arguments.compare), other))
    if arguments.html is not None:
        write_retrieval_report(arguments.html, arguments.data / "images", models, differences)
    if arguments.json:
        print(json.dumps(_as_dict(models, differences)))
    else:
        _print_scores(models, differences)
    return 0


def _evaluate(arguments: argparse.Namespace, name: str) -> RetrievalEvaluation:
    with MobileMultiModalLLM.from_pretrained(name, threads=arguments.threads) as model:
        return evaluate_retrieval(
            model, arguments.data, arguments.split, arguments.limit, arguments.seed, show_progress
        )


def _differences(
    arguments: argparse.Namespace, result: RetrievalEvaluation, other: RetrievalEvaluation
) -> dict[str, dict[int, Interval]]:
    return {
        direction: {depth: recall_difference(result, other, direction, depth, arguments.seed) for depth in DEPTHS}
        for direction in DIRECTIONS
    }


def _as_dict(models: list[ReportModel], differences: dict[str, dict[int, Interval]] | None) -> dict[str, object]:
    content: dict[str, object] = {"model": models[0].name, **models[0].evaluation.as_dict()}
    if differences is not None:
        content["compare"] = {"model": models[1].name, **models[1].evaluation.as_dict()}
        content["recall_difference"] = {
            direction: {f"recall_at_{depth}": asdict(interval) for depth, interval in by_depth.items()}
            for direction, by_depth in differences.items()
        }
    return content


def _print_scores(models: list[ReportModel], differences: dict[str, dict[int, Interval]] | None) -> None:
    first = models[0].evaluation
    print(f"{len(first.names)} pictures, {len(first.sentences)} sentences, 95 % bootstrap intervals over queries")
    rows = [
        (model.name, direction, model.evaluation.recalls[direction]) for model in models for direction in DIRECTIONS
    ]
    rows += [("first minus second, paired", direction, by_depth) for direction, by_depth in (differences or {}).items()]
    for name, direction, by_depth in rows:
        print(f"{name if len(models) > 1 else ''}  {direction.replace('_', ' ')}".strip())
        for depth, interval in by_depth.items():
            print(f"  recall at {depth:<2} {interval.percent()}")
