"""Measures a model file: `mobile-mm evaluate caption --data FOLDER [--model FILE] [--json]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mobile_multimodal.errors import InvalidInputError, MissingExtraError, NotFoundError
from mobile_multimodal.images import ImageSource
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.settings import GenerationOptions
from mobile_multimodal.tasks.caption import Caption
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm evaluate` takes."""
    parser.add_argument("task", choices=["caption"], help="what is measured")
    parser.add_argument("--data", required=True, type=Path, help="folder with images/ and captions_{split}.csv")
    parser.add_argument("--split", default="dev", help="which captions file (default: %(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file (default: %(default)s)")
    parser.add_argument("--beams", type=int, default=3, metavar="N", help="width of the search (default: %(default)s)")
    parser.add_argument("--length-penalty", type=float, metavar="X", help="default: what the file says")
    parser.add_argument("--threads", type=int, metavar="N", help="0 is every CPU")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--captions", type=Path, metavar="FILE", help="write the captions there, as JSON")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


class _BeamCaptioner:
    """A model with its search settings fixed."""

    def __init__(self, model: MobileMultiModalLLM, options: GenerationOptions) -> None:
        self._model, self._options = model, options

    def generate_caption(self, image: ImageSource, /) -> Caption:
        return self._model.generate_caption(image, **self._options)


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Prints the metrics with 95 % intervals; returns the exit code."""
    try:
        from mobile_multimodal.evaluation.caption import evaluate_captioner
    except ImportError as error:
        raise MissingExtraError(
            f"the metrics need the package {error.name}", hint="install it: pip install 'mobile-multimodal[train]'"
        ) from error
    if not arguments.data.is_dir():
        raise NotFoundError(f"the data folder {arguments.data} is not there", hint="pass the data set with --data")
    if arguments.limit < 0:
        raise InvalidInputError(f"option --limit is {arguments.limit}, expected 0 or more", hint="0 is all pictures")
    options: GenerationOptions = {"num_beams": arguments.beams}
    if arguments.length_penalty is not None:
        options["length_penalty"] = arguments.length_penalty
    with MobileMultiModalLLM.from_pretrained(arguments.model, threads=arguments.threads) as model:
        captioner = _BeamCaptioner(model, options)
        result = evaluate_captioner(
            captioner, arguments.data, arguments.split, arguments.limit, arguments.seed, _show_progress
        )
    if arguments.captions is not None:
        arguments.captions.write_text(json.dumps(result.captions, indent=1), encoding="utf-8")
    scores = result.scores
    if arguments.json:
        print(json.dumps({"model": str(arguments.model), "beams": arguments.beams, **scores.as_dict()}))
    else:
        print(f"{scores.pictures} pictures, beam {arguments.beams}, 95 % bootstrap intervals over pictures")
        print(f"CIDEr-D  {scores.cider_d}\nBLEU-4   {scores.bleu_4}\nROUGE-L  {scores.rouge_l}")
    return 0


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done % 10 == 0 or done == total):
        print(f"\r{done}/{total} pictures", end="\n" if done == total else "", file=sys.stderr, flush=True)
