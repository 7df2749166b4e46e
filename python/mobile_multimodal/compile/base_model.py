"""Takes over parts of a model file bit for bit, so that others can be exchanged without the checkpoints of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobile_multimodal.compile.container import Metadata
from mobile_multimodal.compile.program import State, TensorStore
from mobile_multimodal.errors import InvalidInputError, NotFoundError
from mobile_multimodal.model.info import read_program
from mobile_multimodal.model.program import Program

# Written anew for every file.
_OWN_KEYS = (
    "GGUF.",
    "general.",
    "mm.format_version",
    "mm.op_names",
    "mm.program",
    "mm.state",
    "mm.sections",
    "mm.sha256.",
)


@dataclass(frozen=True)
class Part:
    """What belongs to an exchangeable part beside the tensors of its section; prefixes, programs whole."""

    section: str
    programs: tuple[str, ...]
    keys: tuple[str, ...]
    states: str | None = None


ENCODER = Part("encoder", ("encode_image",), ("mm.image.",))
LANGUAGE = Part(
    "language",
    ("embed_text", "embed_image", "prepare_question", "answer_question"),
    ("mm.wordpiece.", "mm.answers", "mm.text."),
    "question.",
)


@dataclass(frozen=True)
class BaseModel:
    """A model file without the parts that are exchanged: programs, the states they number from 0, other metadata."""

    programs: tuple[Program, ...]
    states: tuple[State, ...]
    fields: tuple[tuple[str, Any], ...]

    def add_to(self, metadata: Metadata) -> None:
        """Adds the keys of the kept parts with the types they have in the file."""
        for key, field in self.fields:
            _copy(metadata, key, field)


def read_base_model(path: Path, tensors: TensorStore, exchanged: Sequence[Part]) -> BaseModel:
    """Reads every part but those exchanged; the file's own checks (sizes, hashes) are the core's."""
    from gguf import GGUFReader

    from mobile_multimodal import native

    if not path.is_file():
        raise NotFoundError(f"there is no model file {path}", hint="check the path.")
    engine = native.Engine(str(path))
    engine.verify()
    content = engine.metadata()
    dropped_programs = {name for part in exchanged for name in part.programs}
    names = [name for name in content["mm.programs"] if name not in dropped_programs]
    reader = GGUFReader(path)
    for tensor in reader.tensors:
        if tensor.name.partition(".")[0] not in {part.section for part in exchanged}:
            tensors.add(tensor.name, np.array(tensor.data))
    states = tuple(
        State(name, kind, int(width), int(rows))
        for name, kind, width, rows in zip(
            content["mm.states"],
            content["mm.state.kinds"],
            content["mm.state.widths"],
            content["mm.state.rows"],
            strict=True,
        )
    )
    prefixes = tuple(part.states for part in exchanged if part.states is not None)
    kept = tuple(state for state in states if not state.name.startswith(prefixes))
    if states[: len(kept)] != kept:
        raise InvalidInputError(
            f"{path}: states of an exchanged part stand before others",
            hint="build the file anew from its checkpoints.",
        )
    dropped_keys = (*_OWN_KEYS, *(key for part in exchanged for key in part.keys))
    fields = tuple((key, field) for key, field in reader.fields.items() if not key.startswith(dropped_keys))
    return BaseModel(tuple(read_program(content, name) for name in names), kept, fields)


def _copy(metadata: Metadata, key: str, field: Any) -> None:
    from gguf import GGUFValueType as Type

    value = field.contents()
    kinds = tuple(field.types)
    if kinds == (Type.UINT32,):
        metadata.u32(key, value)
    elif kinds == (Type.FLOAT32,):
        metadata.f32(key, value)
    elif kinds == (Type.BOOL,):
        metadata.boolean(key, value)
    elif kinds == (Type.STRING,):
        metadata.string(key, value)
    elif kinds == (Type.ARRAY, Type.STRING):
        metadata.strings(key, value)
    elif kinds == (Type.ARRAY, Type.INT32):
        metadata.integers(key, value)
    else:
        raise InvalidInputError(f"metadata key `{key}` has the types {kinds}", hint="build the file anew.")
