"""Picks the subcommand, loads its module alone, and turns its failure into a message and an exit code."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mobile_multimodal import __version__
from mobile_multimodal.errors import InternalError, MissingExtraError, MobileMultiModalError, exit_code_of


@dataclass(frozen=True, kw_only=True)
class Command:
    """A subcommand: `module` has add_<name>_arguments(parser) and run_<name>(arguments) -> exit code."""

    name: str
    summary: str
    module: str
    extra: str = ""


# Modules are named, not imported: `mobile-mm caption` must start without PyTorch, and run where it is not installed.
COMMANDS: Final[dict[str, Command]] = {
    command.name: command
    for command in (
        Command(
            name="caption",
            summary="print a sentence about each picture",
            module="mobile_multimodal.cli.caption_command",
        ),
        Command(
            name="ocr",
            summary="print the text in each picture",
            module="mobile_multimodal.cli.ocr_command",
        ),
        Command(
            name="ask",
            summary="answer a question about each picture",
            module="mobile_multimodal.cli.ask_command",
        ),
        Command(
            name="generate",
            summary="write text to a prompt",
            module="mobile_multimodal.cli.generate_command",
        ),
        Command(
            name="index",
            summary="make a folder of pictures searchable",
            module="mobile_multimodal.cli.index_command",
        ),
        Command(
            name="search",
            summary="find pictures by words or by a picture",
            module="mobile_multimodal.cli.search_command",
        ),
        Command(
            name="serve",
            summary="serve the tasks, a page and OpenAI's addresses over HTTP",
            module="mobile_multimodal.cli.serve_command",
            extra="serve",
        ),
        Command(
            name="watch",
            summary="print a sentence about each picture of a sequence that differs from the one before",
            module="mobile_multimodal.cli.watch_command",
        ),
        Command(
            name="calibrate",
            summary="measure what captions, pages and answers take on this machine",
            module="mobile_multimodal.cli.calibrate_command",
        ),
        Command(name="info", summary="print what is inside a model file", module="mobile_multimodal.model.info"),
        Command(
            name="build",
            summary="make a model file from a trained checkpoint",
            module="mobile_multimodal.compile.command",
            extra="train",
        ),
        Command(
            name="train",
            summary="train a model to write captions, or to answer questions and find pictures",
            module="mobile_multimodal.training.command",
            extra="train",
        ),
        Command(
            name="questions",
            summary="make questions with answers from captions, shapes and stamps to train on",
            module="mobile_multimodal.training.question_command",
            extra="train",
        ),
        Command(
            name="evaluate",
            summary="score a model file on captions, text, questions or retrieval",
            module="mobile_multimodal.evaluation.command",
            extra="train",
        ),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code (docs/cli.md lists them)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be valid UTF-8
    warnings.filterwarnings("ignore", module="PIL")  # it warns of damaged EXIF; what matters comes as an error
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except MobileMultiModalError as error:
        print(f"mobile-mm: {error}", file=sys.stderr)
        return exit_code_of(error)
    except KeyboardInterrupt as interrupt:
        print("mobile-mm: stopped", file=sys.stderr)
        return exit_code_of(interrupt)
    except BrokenPipeError:  # the reader of our output, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="mobile-mm",
        description="One small file that sees: captions, reads, answers questions and finds pictures on the device.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(f"  {command.name:10}{command.summary}" for command in COMMANDS.values())
        + "\n\n`mobile-mm COMMAND --help` explains one of them.",
    )
    parser.add_argument("--version", action="version", version=f"mobile-mm {__version__}")
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    command = COMMANDS[chosen.command]
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        raise _missing_module(command, error) from error
    own_parser = argparse.ArgumentParser(
        prog=f"mobile-mm {command.name}", description=f"{command.summary[:1].upper()}{command.summary[1:]}."
    )
    getattr(module, f"add_{command.name}_arguments")(own_parser)
    options = own_parser.parse_args(chosen.arguments)
    try:
        code: int = getattr(module, f"run_{command.name}")(options)
    except ModuleNotFoundError as error:
        raise _missing_module(command, error) from error
    return code


def _missing_module(command: Command, error: ModuleNotFoundError) -> MobileMultiModalError:
    name = error.name or "a module"
    if name.startswith("mobile_multimodal"):
        return InternalError(f"`mobile-mm {command.name}` is not part of this installation: no module {name}")
    hint = f"pip install 'mobile-multimodal[{command.extra}]'" if command.extra else f"pip install {name}"
    return MissingExtraError(f"`mobile-mm {command.name}` needs the package {name}, which is not installed", hint)


if __name__ == "__main__":
    sys.exit(main())
