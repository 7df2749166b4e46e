"""Writes small model files for tests, and runs their programs in the twin and in the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference_interpreter import ReferenceModel

from mobile_multimodal import native
from mobile_multimodal.compile.container import ALIGNMENT, ARCHITECTURE, Metadata, add_programs, write_container
from mobile_multimodal.compile.program import ProgramBuilder, State, TensorStore
from mobile_multimodal.model.program import Program

Array = NDArray[Any]


def write_model(path: Path, programs: Sequence[Program], tensors: TensorStore, states: Sequence[State] = ()) -> Path:
    """A model file of programs alone."""
    if not len(tensors):
        tensors.add("test.unused", np.zeros(1, dtype=np.float32))
    metadata = Metadata()
    metadata.string("general.architecture", ARCHITECTURE)
    metadata.u32("general.alignment", ALIGNMENT)
    metadata.u32("mm.format_version", 1)
    add_programs(metadata, programs, tensors, states)
    if any(program.name == "encode_image" for program in programs):
        metadata.u32("mm.image.size", 32)
    write_container(path, metadata, tensors)
    return path


def write_program(path: Path, inputs: dict[str, str], fill: Callable[..., Any], states: Sequence[State] = ()) -> Path:
    """A model file of one program `test`: fill(builder, *inputs) returns the value of the output `y`, or None."""
    tensors = TensorStore()
    builder = ProgramBuilder("test", tensors)
    result = fill(builder, *(builder.input(name, kind) for name, kind in inputs.items()))
    if result is not None:
        builder.output("y", result)
    return write_model(path, [builder.finish()], tensors, states)


class BothModels:
    """One file in the twin and in the core."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.twin = ReferenceModel(path)
        self.engine = native.Engine(str(path))
        self.engine.verify()
        self.session = native.Session(self.engine, threads=threads)

    def run(self, program: str, inputs: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """(outputs of the twin, outputs of the core); shapes and names agree."""
        expected = self.twin.run(program, inputs)
        found = self.session.run(program, inputs)
        assert set(found) == set(expected)
        for name, array in expected.items():
            assert found[name].shape == array.shape
            assert found[name].dtype == array.dtype
        return expected, found


def relative_error(found: Array, expected: Array) -> float:
    """|found - expected| / |expected|, Euclidean norms over all elements."""
    difference = np.linalg.norm(found.astype(np.float64) - expected.astype(np.float64))
    return float(difference / max(float(np.linalg.norm(expected.astype(np.float64))), 1e-30))


def cosine(a: Array, b: Array) -> float:
    """Cosine of the angle between two arrays as vectors."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
