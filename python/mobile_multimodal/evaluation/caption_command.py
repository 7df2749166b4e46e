"""Measures captions: `mobile-mm evaluate caption --data FOLDER [--model FILE] [--compare FILE2] [--json]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mobile_multimodal.evaluation.arguments import add_shared_arguments, show_progress
from mobile_multimodal.images import ImageSource
from mobile_multimodal.settings import GenerationOptions
from mobile_multimodal.tasks.caption import Caption
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM

if TYPE_CHECKING:
    from mobile_multimodal.evaluation.bootstrap import Interval
    from mobile_multimodal.evaluation.caption import CaptionEvaluation

METRICS: Final = "mobile_multimodal.evaluation.caption"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm evaluate caption` takes."""
    add_shared_arguments(parser, "folder with images/ and captions_{split}.csv")
    parser.add_argument("--split", default="dev", help="which captions file (default: %(default)s)")
    parser.add_argument("--beams", type=int, default=3, metavar="N", help="width of the search (default: %(default)s)")
    parser.add_argument("--length-penalty", type=float, metavar="X", help="default: what the file says")
    parser.add_argument("--captions", type=Path, metavar="FILE", help="write the captions there, as JSON")


class _BeamCaptioner:
    """A model with its search settings fixed."""

    def __init__(self, model: MobileMultiModalLLM, options: GenerationOptions) -> None:
        self._model, self._options = model, options

    def generate_caption(self, image: ImageSource, /) -> Caption:
        return self._model.generate_caption(image, **self._options)


def run(arguments: argparse.Namespace) -> int:
    """Prints the metrics with 95 % intervals; returns the exit code."""
    result = _evaluate(arguments, arguments.model)
    other = None if arguments.compare is None else _evaluate(arguments, arguments.compare)
    if arguments.captions is not None:
        arguments.captions.write_text(json.dumps(result.captions, indent=1), encoding="utf-8")
    if arguments.html is not None:
        _write_report(arguments, result, other)
    if arguments.json:
        print(json.dumps(_as_dict(arguments, result, other)))
    else:
        _print_scores(arguments, result, other)
    return 0


def _evaluate(arguments: argparse.Namespace, model_name: str) -> CaptionEvaluation:
    from mobile_multimodal.evaluation.caption import evaluate_captioner

    options: GenerationOptions = {"num_beams": arguments.beams}
    if arguments.length_penalty is not None:
        options["length_penalty"] = arguments.length_penalty
    with MobileMultiModalLLM.from_pretrained(model_name, threads=arguments.threads) as model:
        captioner = _BeamCaptioner(model, options)
        return evaluate_captioner(
            captioner, arguments.data, arguments.split, arguments.limit, arguments.seed, show_progress
        )


def _write_report(arguments: argparse.Namespace, result: CaptionEvaluation, other: CaptionEvaluation | None) -> None:
    from mobile_multimodal.evaluation.caption_references import read_captions
    from mobile_multimodal.evaluation.caption_report import ReportModel, write_caption_report

    models = [ReportModel(str(arguments.model), result)]
    if other is not None:
        models.append(ReportModel(str(arguments.compare), other))
    references = read_captions(arguments.data, [arguments.split])
    ratio = None if other is None else _ratio(arguments, result, other)
    write_caption_report(arguments.html, arguments.data / "images", references, models, ratio)


def _ratio(arguments: argparse.Namespace, result: CaptionEvaluation, other: CaptionEvaluation) -> Interval | None:
    """None where the second model scores 0."""
    from mobile_multimodal.evaluation.bootstrap import ratio_interval

    if not other.scores.cider_d.value > 0:
        return None
    return ratio_interval(result.scores.cider_d_per_picture, other.scores.cider_d_per_picture, arguments.seed)


def _as_dict(
    arguments: argparse.Namespace, result: CaptionEvaluation, other: CaptionEvaluation | None
) -> dict[str, object]:
    content = {"model": str(arguments.model), "beams": arguments.beams, **result.scores.as_dict()}
    if other is not None:
        content["compare"] = {"model": str(arguments.compare), **other.scores.as_dict()}
        ratio = _ratio(arguments, result, other)
        content["cider_d_ratio"] = None if ratio is None else asdict(ratio)
    return content


def _print_scores(arguments: argparse.Namespace, result: CaptionEvaluation, other: CaptionEvaluation | None) -> None:
    print(f"{result.scores.pictures} pictures, beam {arguments.beams}, 95 % bootstrap intervals over pictures")
    for name, evaluation in ((arguments.model, result), (arguments.compare, other)):
        if evaluation is None:
            continue
        if other is not None:
            print(name)
        scores = evaluation.scores
        print(f"CIDEr-D  {scores.cider_d}\nBLEU-4   {scores.bleu_4}\nROUGE-L  {scores.rouge_l}")
    if other is not None:
        print(f"CIDEr-D, first / second, paired: {_ratio(arguments, result, other) or 'undefined, the second is 0'}")
