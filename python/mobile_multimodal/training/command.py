"""Trains models: `mobile-mm train caption --data FOLDER --out FOLDER`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import InvalidInputError, MissingExtraError, NotFoundError
from mobile_multimodal.model.hub import DEFAULT_MODEL, find_model
from mobile_multimodal.training.stage_names import STAGES


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm train` takes."""
    parser.add_argument("task", choices=["caption"], help="what the model learns")
    parser.add_argument("--data", required=True, type=Path, help="folder with images/ and captions_{train,dev}.csv")
    parser.add_argument("--out", required=True, type=Path, help="folder for caches, checkpoints and metrics")
    parser.add_argument("--stage", default="all", choices=["all", *STAGES], help="one stage (default: %(default)s)")
    parser.add_argument(
        "--unlabelled", type=Path, metavar="FOLDER", help="pictures without captions for the student to imitate on"
    )
    parser.add_argument("--encoder", default=DEFAULT_MODEL, help="model whose image encoder is used (%(default)s)")
    parser.add_argument("--bits", type=int, default=2, choices=[2, 4], help="bits of the student (%(default)s)")
    parser.add_argument("--width", type=int, default=512, help="width of the decoder (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=3, help="layers of the decoder (default: %(default)s)")
    parser.add_argument("--ffn", type=int, default=1024, help="width of the feed-forward part (default: %(default)s)")
    parser.add_argument("--heads", type=int, default=8, help="attention heads (default: %(default)s)")
    parser.add_argument("--vocab-size", type=int, default=4096, help="pieces of the tokenizer (default: %(default)s)")
    parser.add_argument("--views", type=int, default=6, help="cached views of a picture (default: %(default)s)")
    parser.add_argument(
        "--effort", type=float, default=1.0, metavar="X", help="share of the recipe's steps (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same batches (default: 0)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="0 is every CPU (default: %(default)s)")


def run_train(arguments: argparse.Namespace) -> int:
    """Runs the stages that were asked for; returns the exit code."""
    try:
        import torch

        from mobile_multimodal.training.caption_recipe import CaptionRecipe
        from mobile_multimodal.training.caption_stages import CaptionStages
    except ImportError as error:
        raise MissingExtraError(
            f"training needs the package {error.name}", hint="install it with `pip install 'mobile-multimodal[train]'`"
        ) from error
    if not arguments.data.is_dir():
        raise NotFoundError(f"the data folder {arguments.data} is not there", hint="pass the data set with --data")
    if arguments.unlabelled is not None and not arguments.unlabelled.is_dir():
        raise NotFoundError(f"the folder {arguments.unlabelled} is not there", hint="pass pictures with --unlabelled")
    if arguments.threads < 0:
        raise InvalidInputError(f"option --threads is {arguments.threads}, expected 0 or more", hint="0 is every CPU")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
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
    stages = CaptionStages(
        arguments.data,
        arguments.out,
        replace(recipe, student=shape),
        lambda: _core_encoder(arguments),
        arguments.unlabelled,
    )
    for stage in STAGES if arguments.stage == "all" else (arguments.stage,):
        stages.run(stage)
    result = arguments.out / "student" / "model.pt"
    if result.is_file():
        print(f"student: {result}; pack it with: mobile-mm build --decoder {result} --help")
    return 0


class _CoreEncoder:
    """Features of pictures from the program `encode_image` of a model file, run by the C++ core."""

    def __init__(self, model: str, threads: int) -> None:
        from mobile_multimodal import native

        self._engine = native.Engine(str(find_model(model)))
        self._session = native.Session(self._engine, threads)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs = [self._session.run("encode_image", {"pixels": image})["features"] for image in images]
        return np.stack(outputs).reshape(len(images), -1, outputs[0].shape[-1]).astype(np.float32)


def _core_encoder(arguments: argparse.Namespace) -> _CoreEncoder:
    return _CoreEncoder(arguments.encoder, arguments.threads)
