"""Writes a small model file that gives the trunk of the image encoder: what training caches of each picture."""

from __future__ import annotations

from pathlib import Path

from mobile_multimodal.compile.base_model import read_base_model
from mobile_multimodal.compile.container import (
    ALIGNMENT,
    ARCHITECTURE,
    FORMAT_VERSION,
    Metadata,
    add_programs,
    write_container,
)
from mobile_multimodal.compile.detail_branch import with_trunk
from mobile_multimodal.compile.image_encoder import SECTION
from mobile_multimodal.compile.program import TensorStore
from mobile_multimodal.errors import InvalidInputError


def write_trunk_model(source: Path, out: Path, first_block: int) -> Path:
    """`encode_image` of the model file `source`, bit for bit, with the output `trunk` beside its features."""
    every, kept = TensorStore(), TensorStore()
    base = read_base_model(source, every)
    encoders = [program for program in base.programs if program.name == "encode_image"]
    if not encoders:
        raise InvalidInputError(f"{source} has no image encoder", hint="name another model with --encoder.")
    for name, array in every.items():
        if name.startswith(f"{SECTION}."):
            kept.add(name, array)
    metadata = Metadata()
    metadata.string("general.architecture", ARCHITECTURE)
    metadata.string("general.name", out.stem)
    metadata.u32("general.alignment", ALIGNMENT)
    metadata.u32("mm.format_version", FORMAT_VERSION)
    add_programs(metadata, [with_trunk(program, first_block) for program in encoders], kept, ())
    sizes = [int(field.contents()) for key, field in base.fields if key == "mm.image.size"]
    metadata.u32("mm.image.size", sizes[0])
    write_container(out, metadata, kept)
    return out
