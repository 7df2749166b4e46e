"""Takes over the parts of a model file bit for bit, so that one can be added without the checkpoints of the rest."""

from __future__ import annotations

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
_LANGUAGE_KEYS = ("mm.wordpiece.", "mm.answers", "mm.text.")
_LANGUAGE_PROGRAMS = ("embed_text", "embed_image", "prepare_question", "answer_question")


@dataclass(frozen=True)
class BaseModel:
    """A model file without its language tower: programs, the states they number from 0, and the other metadata."""

    programs: tuple[Program, ...]
    states: tuple[State, ...]
    fields: tuple[tuple[str, Any], ...]

    def add_to(self, metadata: Metadata) -> None:
        """Adds the keys of encoder, decoder and text networks with the types they have in the file."""
        for key, field in self.fields:
            _copy(metadata, key, field)


def read_base_model(path: Path, tensors: TensorStore) -> BaseModel:
    """Reads every part but a language tower; the file's own checks (sizes, hashes) are the core's."""
    from gguf import GGUFReader

    from mobile_multimodal import native

    if not path.is_file():
        raise NotFoundError(f"there is no model file {path}", hint="check the path.")
    engine = native.Engine(str(path))
    engine.verify()
    content = engine.metadata()
    names = [name for name in content["mm.programs"] if name not in _LANGUAGE_PROGRAMS]
    reader = GGUFReader(path)
    for tensor in reader.tensors:
        if not tensor.name.startswith("language."):
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
    kept = tuple(state for state in states if not state.name.startswith("question."))
    if states[: len(kept)] != kept:
        raise InvalidInputError(
            f"{path}: states of its language tower stand before others",
            hint="build the file anew from its checkpoints.",
        )
    fields = tuple(
        (key, field) for key, field in reader.fields.items() if not key.startswith((*_OWN_KEYS, *_LANGUAGE_KEYS))
    )
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
