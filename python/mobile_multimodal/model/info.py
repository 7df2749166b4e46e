"""`mobile-mm info FILE`: what is inside a model file - programs, parts, bits, sizes, hashes."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mobile_multimodal.errors import InvalidInputError, did_you_mean
from mobile_multimodal.model.hub import DEFAULT_MODEL, find_model
from mobile_multimodal.model.program import Program, decode_words, listing

if TYPE_CHECKING:
    from mobile_multimodal.native import Engine

_ELEMENT_BITS = {"f32": 32, "i32": 32, "f16": 16, "i8": 8, "u8": 8}
_HASH_PREFIX = "mm.sha256."


@dataclass(frozen=True)
class ProgramInfo:
    """Inputs as `name: type`, outputs by name, instructions by operation (most frequent first)."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    instructions: int
    operations: dict[str, int]


@dataclass(frozen=True)
class SectionInfo:
    """A part of the file. `weights` counts numbers by their bits, padding of packed tiles included."""

    name: str
    tensors: int
    weights: dict[int, int]
    bytes: int
    sha256: str


@dataclass(frozen=True)
class StateInfo:
    """What programs keep between runs: at most `rows` rows of `width` floats (a cache: for each sequence)."""

    name: str
    kind: str
    width: int
    rows: int


@dataclass(frozen=True)
class ModelInfo:
    """Everything that `mobile-mm info` prints."""

    path: str
    bytes: int
    name: str
    version: str
    license: str
    description: str
    format_version: int
    instruction_set: str
    image_size: int | None
    caption: dict[str, float]
    vocabulary: int | None
    word_pieces: int | None
    text_length: int | None
    answers: int | None
    programs: tuple[ProgramInfo, ...]
    sections: tuple[SectionInfo, ...]
    states: tuple[StateInfo, ...]
    metadata_sha256: str
    is_verified: bool | None


def add_info_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm info` takes."""
    parser.add_argument(
        "model", nargs="?", default=DEFAULT_MODEL, metavar="FILE", help="name or .gguf file (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--program", metavar="NAME", help="print the instructions of a program")
    parser.add_argument("--verify", action="store_true", help="check every SHA-256")


def run_info(arguments: argparse.Namespace) -> int:
    """Prints the description of a model file."""
    from mobile_multimodal import native

    engine = native.Engine(str(find_model(arguments.model)))
    if arguments.verify:
        engine.verify()
    if arguments.program is not None:
        program = read_program(engine.metadata(), arguments.program)
        print(json.dumps(asdict(program)) if arguments.json else listing(program))
        return 0
    info = describe(engine, native.isa(), is_verified=True if arguments.verify else None)
    print(json.dumps(asdict(info), ensure_ascii=False) if arguments.json else info_text(info))
    return 0


def describe(engine: Engine, instruction_set: str, is_verified: bool | None = None) -> ModelInfo:
    """The description of an open model file."""
    metadata = engine.metadata()
    caption_keys = [key for key in metadata if key.startswith("mm.caption.")]
    return ModelInfo(
        path=engine.path,
        bytes=engine.file_bytes,
        name=str(metadata.get("general.name", "")),
        version=str(metadata.get("general.version", "")),
        license=str(metadata.get("general.license", "")),
        description=str(metadata.get("general.description", "")),
        format_version=int(metadata["mm.format_version"]),
        instruction_set=instruction_set,
        image_size=int(metadata["mm.image.size"]) if "mm.image.size" in metadata else None,
        caption={key.removeprefix("mm.caption."): metadata[key] for key in caption_keys},
        vocabulary=len(metadata["tokenizer.ggml.tokens"]) if "tokenizer.ggml.tokens" in metadata else None,
        word_pieces=len(metadata["mm.wordpiece.tokens"]) if "mm.wordpiece.tokens" in metadata else None,
        text_length=int(metadata["mm.text.max_length"]) if "mm.text.max_length" in metadata else None,
        answers=len(metadata["mm.answers"]) if "mm.answers" in metadata else None,
        programs=tuple(_describe_program(read_program(metadata, name)) for name in metadata["mm.programs"]),
        sections=_describe_sections(metadata, engine.tensors()),
        states=_describe_states(metadata),
        metadata_sha256=str(metadata.get(f"{_HASH_PREFIX}metadata", "")),
        is_verified=is_verified,
    )


def read_program(metadata: Mapping[str, Any], name: str) -> Program:
    """A program from the metadata of a file; raises InvalidInputError when there is none of that name."""
    if name not in metadata["mm.programs"]:
        raise InvalidInputError(f"the file has no program '{name}'", did_you_mean(name, metadata["mm.programs"]))
    prefix = f"mm.program.{name}."
    return Program(
        name=name,
        inputs=tuple(metadata[prefix + "inputs"]),
        input_types=tuple(metadata[prefix + "input_types"]),
        tensors=tuple(metadata[prefix + "tensors"]),
        slots=int(metadata[prefix + "slots"]),
        outputs=tuple(metadata[prefix + "outputs"]),
        output_slots=tuple(metadata[prefix + "output_slots"]),
        instructions=decode_words(metadata[prefix + "code"], metadata["mm.op_names"]),
    )


def info_text(info: ModelInfo) -> str:
    """The description as a person reads it."""
    lines = [" ".join(part for part in (info.name, info.version, f"({info.license})" if info.license else "") if part)]
    if info.description:
        lines.append(info.description)
    lines += [
        f"file             {info.path}, {info.bytes:,} bytes, format {info.format_version}",
        f"instruction set  {info.instruction_set}",
    ]
    if info.image_size is not None:
        lines.append(f"picture          {info.image_size} x {info.image_size}")
    if info.vocabulary is not None:
        lines.append(f"vocabulary       {info.vocabulary:,} tokens")
    if info.caption:
        lines.append("caption          " + ", ".join(f"{key} {value:g}" for key, value in info.caption.items()))
    if info.word_pieces is not None:
        lines.append(f"texts            {info.word_pieces:,} word pieces, at most {info.text_length} of them a text")
    if info.answers is not None:
        lines.append(f"answers          {info.answers:,}")
    if info.is_verified:
        lines.append("sha256           every part agrees")
    lines.append("programs")
    for program in info.programs:
        lines.append(f"  {program.name}({', '.join(program.inputs)}) -> {', '.join(program.outputs) or 'states alone'}")
        counts = ", ".join(f"{name} {count}" for name, count in program.operations.items())
        lines.append(f"    {program.instructions} instructions: {counts}")
    lines.append("parts")
    for section in info.sections:
        weights = ", ".join(f"{count:,} x {bits} bits" for bits, count in section.weights.items())
        lines.append(f"  {section.name:10} {section.bytes:>12,} bytes, {section.tensors} tensors: {weights}")
        lines.append(f"  {'':10} sha256 {section.sha256}")
    lines.append(f"  {'metadata':10} sha256 {info.metadata_sha256}")
    if info.states:
        lines.append("states")
        lines += [
            f"  {state.name:20} {state.kind}, at most {state.rows} rows of {state.width}" for state in info.states
        ]
    return "\n".join(lines)


def _describe_program(program: Program) -> ProgramInfo:
    return ProgramInfo(
        name=program.name,
        inputs=tuple(f"{name}: {kind}" for name, kind in zip(program.inputs, program.input_types, strict=True)),
        outputs=program.outputs,
        instructions=len(program.instructions),
        operations=dict(Counter(step.operation for step in program.instructions).most_common()),
    )


def _describe_sections(
    metadata: Mapping[str, Any], tensors: Sequence[tuple[str, str, tuple[int, ...], int]]
) -> tuple[SectionInfo, ...]:
    described = []
    for section in metadata.get("mm.sections", []):
        own = [item for item in tensors if item[0].startswith(f"{section}.")]
        weights: dict[int, int] = {}
        for name, kind, _, size in own:
            bits = _weight_bits(name, kind)
            weights[bits] = weights.get(bits, 0) + size * 8 // bits
        described.append(
            SectionInfo(
                name=section,
                tensors=len(own),
                weights=dict(sorted(weights.items())),
                bytes=sum(size for *_, size in own),
                sha256=str(metadata.get(_HASH_PREFIX + section, "")),
            )
        )
    return tuple(described)


def _weight_bits(name: str, kind: str) -> int:
    """Packed tensors are I8 whose name ends with their bits: `.w2`, `.w4`, `.w8`."""
    suffix = name.rpartition(".")[2]
    return int(suffix[1]) if kind == "i8" and suffix in ("w2", "w4", "w8") else _ELEMENT_BITS[kind]


def _describe_states(metadata: Mapping[str, Any]) -> tuple[StateInfo, ...]:
    columns = [metadata.get(key, []) for key in ("mm.states", "mm.state.kinds", "mm.state.widths", "mm.state.rows")]
    return tuple(StateInfo(*row) for row in zip(*columns, strict=True))
