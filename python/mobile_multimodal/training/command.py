"""Trains models: `mobile-mm train caption` and `mobile-mm train language`, each with `--data FOLDER --out FOLDER`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_multimodal.errors import InvalidInputError, MissingExtraError, NotFoundError
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.training.stage_names import LANGUAGE_STAGES, STAGES
from mobile_multimodal.training.stamps import DEFAULT_FOLDER

if TYPE_CHECKING:
    from mobile_multimodal.training.core_encoder import CoreEncoder


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm train` takes."""
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK", help="what the model learns")
    _add_caption_arguments(tasks.add_parser("caption", help="to write a sentence about a picture"))
    _add_language_arguments(tasks.add_parser("language", help="to answer questions about a picture and to find it"))


def _add_common_arguments(parser: argparse.ArgumentParser, data: str, stages: Iterable[str]) -> None:
    parser.add_argument("--data", required=True, type=Path, help=data)
    parser.add_argument("--out", required=True, type=Path, help="folder for caches, checkpoints and metrics")
    parser.add_argument("--stage", default="all", choices=["all", *stages], help="one stage (default: %(default)s)")
    parser.add_argument("--encoder", default=DEFAULT_MODEL, help="model whose image encoder is used (%(default)s)")
    parser.add_argument(
        "--effort", type=float, default=1.0, metavar="X", help="share of the recipe's steps (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same batches (default: 0)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="0 is every CPU (default: %(default)s)")


def _add_caption_arguments(parser: argparse.ArgumentParser) -> None:
    _add_common_arguments(parser, "folder with images/ and captions_{train,dev}.csv", STAGES)
    parser.add_argument(
        "--unlabelled", type=Path, metavar="FOLDER", help="pictures without captions for the student to imitate on"
    )
    parser.add_argument("--bits", type=int, default=2, choices=[2, 4], help="bits of the student (%(default)s)")
    parser.add_argument("--width", type=int, default=512, help="width of the decoder (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=3, help="layers of the decoder (default: %(default)s)")
    parser.add_argument("--ffn", type=int, default=1024, help="width of the feed-forward part (default: %(default)s)")
    parser.add_argument("--heads", type=int, default=8, help="attention heads (default: %(default)s)")
    parser.add_argument("--vocab-size", type=int, default=4096, help="pieces of the tokenizer (default: %(default)s)")
    parser.add_argument("--views", type=int, default=6, help="cached views of a picture (default: %(default)s)")


def _add_language_arguments(parser: argparse.ArgumentParser) -> None:
    data = "folder with the data sets flickr8k/, visual7w/ and vqa_yesno/"
    _add_common_arguments(parser, data, LANGUAGE_STAGES)
    parser.add_argument(
        "--stamps",
        type=Path,
        default=DEFAULT_FOLDER,
        metavar="FOLDER",
        help="stamps of Tux Paint to compose pictures of; left out where they are not there (default: %(default)s)",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FILE",
        help="go on from the tower of this model file: tune its questions, keep the rest (default: train all)",
    )
    parser.add_argument(
        "--scenes", type=int, default=6000, metavar="N", help="pictures composed of stamps (default: %(default)s)"
    )


def run_train(arguments: argparse.Namespace) -> int:
    """Runs the stages that were asked for; returns the exit code."""
    try:
        import torch

        from mobile_multimodal.training.core_encoder import CoreEncoder
    except ImportError as error:
        raise MissingExtraError(
            f"training needs the package {error.name}", hint="install it with `pip install 'mobile-multimodal[train]'`"
        ) from error
    if not arguments.data.is_dir():
        raise NotFoundError(f"the data folder {arguments.data} is not there", hint="pass the data set with --data")
    if arguments.threads < 0:
        raise InvalidInputError(f"option --threads is {arguments.threads}, expected 0 or more", hint="0 is every CPU")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    def encoder() -> CoreEncoder:
        return CoreEncoder(arguments.encoder, arguments.threads)

    return _train_caption(arguments, encoder) if arguments.task == "caption" else _train_language(arguments, encoder)


def _train_caption(arguments: argparse.Namespace, encoder: Callable[[], CoreEncoder]) -> int:
    from mobile_multimodal.training.caption_recipe import CaptionRecipe
    from mobile_multimodal.training.caption_stages import CaptionStages

    if arguments.unlabelled is not None and not arguments.unlabelled.is_dir():
        raise NotFoundError(f"the folder {arguments.unlabelled} is not there", hint="pass pictures with --unlabelled")
    recipe = CaptionRecipe(seed=arguments.seed, views=arguments.views, effort=arguments.effort)
    shape = replace(
        recipe.student,
        bits=arguments.bits,
        width=arguments.width,
        layers=arguments.layers,
        ffn=arguments.ffn,
        heads=arguments.heads,
        kv_heads=arguments.heads,
        vocab_size=arguments.vocab_size,
    )
    recipe = replace(recipe, student=shape)
    stages = CaptionStages(arguments.data, arguments.out, recipe, encoder, arguments.unlabelled)
    for stage in STAGES if arguments.stage == "all" else (arguments.stage,):
        stages.run(stage)
    result = arguments.out / "student" / "model.pt"
    if result.is_file():
        print(f"student: {result}; pack it with: mobile-mm build --decoder {result} --help")
    return 0


def _train_language(arguments: argparse.Namespace, encoder: Callable[[], CoreEncoder]) -> int:
    from mobile_multimodal.training.language_recipe import LanguageRecipe
    from mobile_multimodal.training.language_stages import LanguageStages

    # A tenth of the scenes is for dev; both splits need a picture.
    if arguments.scenes < 10:
        raise InvalidInputError(f"option --scenes is {arguments.scenes}, expected 10 or more", hint="try 6000")
    recipe = LanguageRecipe(seed=arguments.seed, effort=arguments.effort, scenes=arguments.scenes)
    stages = LanguageStages(arguments.data, arguments.out, recipe, encoder, arguments.stamps, arguments.start)
    for stage in LANGUAGE_STAGES if arguments.stage == "all" else (arguments.stage,):
        stages.run(stage)
    result = arguments.out / "language.pt"
    if result.is_file():
        print(f"tower: {result}; pack it with: mobile-mm build --language {result} --help")
    return 0
