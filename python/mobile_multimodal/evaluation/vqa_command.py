"""Scores answers to questions: `mobile-mm evaluate vqa --data FOLDER`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mobile_multimodal.errors import NotFoundError
from mobile_multimodal.evaluation.arguments import add_shared_arguments, show_progress
from mobile_multimodal.evaluation.question_sets import QuestionSet, read_question_set
from mobile_multimodal.evaluation.vqa import (
    Guesser,
    VqaEvaluation,
    accuracy_difference,
    ask_all,
    drawn_questions,
    score_answers,
)
from mobile_multimodal.evaluation.vqa_report import ReportModel, write_vqa_report
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM

if TYPE_CHECKING:
    from mobile_multimodal.evaluation.bootstrap import Interval

METRICS: Final = "mobile_multimodal.evaluation.question_only"
TRAINING_SPLIT: Final = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm evaluate vqa` takes."""
    add_shared_arguments(
        parser, "folder with questions_{split}.jsonl or .csv and images/, or the folder data of easy-vqa"
    )
    parser.add_argument("--split", default="dev", help="which questions are asked (default: %(default)s)")
    parser.add_argument(
        "--no-baselines", action="store_true", help="leave out the guessers that are fitted to the training questions"
    )
    parser.add_argument("--answers", type=Path, metavar="FILE", help="write questions with answers there, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Prints accuracy by kind with 95 % intervals beside guessers; returns the exit code."""
    found = read_question_set(arguments.data, arguments.split)
    guessers = {} if arguments.no_baselines else _guessers(arguments, found)
    result = _evaluate(arguments, arguments.model, found, guessers)
    other = None if arguments.compare is None else _evaluate(arguments, arguments.compare, found, guessers)
    differences = None
    if other is not None:
        differences = {
            scores.kind: accuracy_difference(result, other, scores.kind, arguments.seed) for scores in result.kinds
        }
    if arguments.answers is not None:
        records = [asdict(a.question) | {"given": a.text, "confidence": a.confidence} for a in result.answers]
        arguments.answers.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
    if arguments.html is not None:
        models = [ReportModel(str(arguments.model), result)]
        if other is not None:
            models.append(ReportModel(str(arguments.compare), other))
        write_vqa_report(arguments.html, found.images, models, differences)
    if arguments.json:
        print(json.dumps(_as_dict(arguments, result, other, differences)))
    else:
        _print_scores(arguments, result, other, differences)
    return 0


def _guessers(arguments: argparse.Namespace, found: QuestionSet) -> dict[str, Guesser]:
    """Fitted to the training split; a folder without one has none, as a guesser must not have seen the answers."""
    from mobile_multimodal.evaluation.question_only import MajorityAnswer, QuestionOnlyModel

    if arguments.split == TRAINING_SPLIT:
        return {}
    try:
        known = read_question_set(arguments.data, TRAINING_SPLIT).questions
    except NotFoundError:
        return {}
    return {"majority": MajorityAnswer(known), "question only": QuestionOnlyModel(known, arguments.seed)}


def _evaluate(
    arguments: argparse.Namespace, name: str, found: QuestionSet, guessers: dict[str, Guesser]
) -> VqaEvaluation:
    questions = drawn_questions(found, arguments.limit, arguments.seed)
    with MobileMultiModalLLM.from_pretrained(name, threads=arguments.threads) as model:
        answers = ask_all(model, found.images, questions, show_progress)
    return score_answers(answers, guessers, arguments.seed)


def _as_dict(
    arguments: argparse.Namespace,
    result: VqaEvaluation,
    other: VqaEvaluation | None,
    differences: dict[str, Interval] | None,
) -> dict[str, object]:
    content = {"model": str(arguments.model), "data": arguments.data.name, "split": arguments.split, **result.as_dict()}
    if other is not None and differences is not None:
        content["compare"] = {"model": str(arguments.compare), **other.as_dict()}
        content["accuracy_difference"] = {kind: asdict(difference) for kind, difference in differences.items()}
    return content


def _print_scores(
    arguments: argparse.Namespace,
    result: VqaEvaluation,
    other: VqaEvaluation | None,
    differences: dict[str, Interval] | None,
) -> None:
    print(f"{len(result.answers)} questions, 95 % bootstrap intervals; guessers see no picture")
    for name, evaluation in ((arguments.model, result), (arguments.compare, other)):
        if evaluation is None:
            continue
        if other is not None:
            print(name)
        for scores in evaluation.kinds:
            guesses = "".join(f"  {guesser} {value.percent()}" for guesser, value in scores.baselines.items())
            print(
                f"{scores.kind:12} {scores.questions:6}  {scores.accuracy.percent():22}"
                f"  calibration error {scores.calibration_error:.3f}{guesses}"
            )
        without = evaluation.unanswerable
        if without is not None:
            print(
                f"{'unanswerable':12} {without.questions:6}  mean confidence {without.mean_confidence:.3f}, "
                f"below an answerable one's {100 * without.ranking_accuracy:.1f} % of the time"
            )
    for kind, difference in (differences or {}).items():
        print(f"{kind:12} first minus second, paired: {difference.percent()}")
