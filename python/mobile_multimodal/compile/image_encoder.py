"""Builds the program `encode_image`: pixels, normalisation, and an ONNX graph of any architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobile_multimodal.compile.errors import UnsupportedOperationError
from mobile_multimodal.compile.fusion import fuse
from mobile_multimodal.compile.onnx_graph import Graph, load_graph
from mobile_multimodal.compile.onnx_import import import_graph
from mobile_multimodal.compile.program import ProgramBuilder, TensorStore
from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.model.program import Program

SECTION = "encoder"
# Where an exported file keeps its normalisation: three numbers each, in 0..255 units.
MEAN_PROPERTY, STD_PROPERTY = "mm.image_mean", "mm.image_std"


@dataclass(frozen=True)
class ImageEncoder:
    """The program, the side of the square picture it takes, and the bits of its matrix products."""

    program: Program
    image_size: int
    weight_bits: int


def build_image_encoder(
    path: Path,
    tensors: TensorStore,
    *,
    weight_bits: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ImageEncoder:
    """Compiles an ONNX encoder [1, 3, side, side] -> features [1, channels, h, w].

    mean, std: of the pixels in 0..255 units; by default what the file's properties say.
    """
    graph = fuse(load_graph(path))
    side = _picture_side(graph, path)
    mean = _normalisation(graph, MEAN_PROPERTY, mean)
    std = _normalisation(graph, STD_PROPERTY, std)
    if min(std) <= 0:
        raise InvalidInputError(
            f"the standard deviation is {list(std)}, expected positive numbers", hint="0..255 units."
        )
    builder = ProgramBuilder("encode_image", tensors)
    pixels = builder.input("pixels", "u8")
    picture = builder.apply("image_normalize", [pixels], [*mean, *(1.0 / value for value in std)])
    outputs = import_graph(graph, builder, SECTION, {graph.inputs[0]: picture}, weight_bits)
    builder.output("features", outputs[graph.outputs[0]])
    return ImageEncoder(builder.finish(), side, weight_bits)


def _picture_side(graph: Graph, path: Path) -> int:
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise UnsupportedOperationError(
            f"{path} has inputs {graph.inputs} and outputs {graph.outputs}, expected one of each",
            hint="export the part from the picture to the features alone.",
        )
    shape = graph.shapes.get(graph.inputs[0], ())
    if len(shape) != 4 or shape[:2] != (1, 3) or shape[2] is None or shape[2] != shape[3]:
        raise UnsupportedOperationError(
            f"{path} takes {shape}, expected [1, 3, side, side]", hint="export with a fixed square input of batch 1."
        )
    return shape[2]


def _normalisation(graph: Graph, key: str, given: Sequence[float] | None) -> list[float]:
    if given is None and key not in graph.properties:
        raise InvalidInputError(
            f"the ONNX file does not say its normalisation (property `{key}`)",
            hint="give --encoder-mean and --encoder-std, three numbers each in 0..255 units.",
        )
    values = [float(part) for part in graph.properties[key].split()] if given is None else list(given)
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise InvalidInputError(
            f"`{key}` has {len(values)} numbers, expected 3", hint="one for each of red, green, blue."
        )
    return values
