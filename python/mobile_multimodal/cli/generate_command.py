"""Writes text to a prompt: `mobile-mm generate PROMPT --model FILE`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final, cast

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.settings import settings_from
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM
from mobile_multimodal.tasks.text import check_prompt
from mobile_multimodal.tasks.text_settings import TextOptions, TextSettings

_SETTINGS: Final = (
    "max_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
    "deadline_seconds",
)


def add_generate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm generate` takes."""
    parser.add_argument("prompt", metavar="PROMPT", help="a text in quotes, or - to read it from stdin")
    parser.add_argument(
        "--model", required=True, metavar="FILE", help="a model file that writes text: mobile-mm build --from-gguf"
    )
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the prompt")
    parser.add_argument("--no-template", action="store_true", help="continue the text as it is, without chat template")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="at most this many pieces of words (256)")
    parser.add_argument("--temperature", type=float, metavar="X", help="above 0 draws words at random (0)")
    parser.add_argument("--top-k", type=int, metavar="N", help="draw from so many likeliest pieces; 0 is all (0)")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw from the likeliest pieces of this total (1)")
    parser.add_argument("--min-p", type=float, metavar="P", help="leave out what is below this share of the likeliest")
    parser.add_argument("--repetition-penalty", type=float, metavar="X", help="above 1 avoids what was said (1)")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed draws the same words (0)")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; may be repeated")
    parser.add_argument("--deadline", dest="deadline_seconds", type=float, metavar="SECONDS", help="give up after this")
    parser.add_argument("--threads", type=int, metavar="N", help="0 is every CPU (the default)")


def run_generate(arguments: argparse.Namespace) -> int:
    """Prints the text, piece by piece on a terminal; returns the exit code."""
    values = {name: getattr(arguments, name) for name in _SETTINGS}
    options = cast(TextOptions, {name: value for name, value in values.items() if value is not None})
    settings_from(TextSettings, options)  # a wrong setting is refused before a model is loaded
    if arguments.system is not None and arguments.no_template:
        raise InvalidInputError("options --system and --no-template exclude each other", "drop one of them")
    text = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    check_prompt(text)
    messages = [("system", arguments.system), ("user", text)] if arguments.system is not None else text
    template = False if arguments.no_template else None
    with MobileMultiModalLLM.from_pretrained(arguments.model, threads=arguments.threads) as model:
        if arguments.json or not sys.stdout.isatty():
            made = model.generate_text(messages, template=template, **options)
            print(json.dumps(made.to_dict(), ensure_ascii=False) if arguments.json else made, flush=True)
            return 0
        with model.stream_text(messages, template=template, **options) as stream:
            for piece in stream:
                print(piece, end="", flush=True)
        print(flush=True)
    return 0
