"""Builds the programs `detect_text` and `recognize_text` from the ONNX files of a PP-OCR package.

Facts about the exported networks, from PaddleOCR's inference settings: both take blue, green, red; detection normalises
with ImageNet's mean and deviation in that order of channels, recognition maps 0..255 to -1..1; class 0 is CTC's blank
and the last class, which the character table leaves out, is the space.
"""

from __future__ import annotations

import importlib.metadata
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobile_multimodal.compile.container import Metadata
from mobile_multimodal.compile.errors import UnsupportedOperationError
from mobile_multimodal.compile.fusion import fuse
from mobile_multimodal.compile.onnx_graph import Graph, load_graph
from mobile_multimodal.compile.onnx_import import import_graph
from mobile_multimodal.compile.program import ProgramBuilder, TensorStore
from mobile_multimodal.errors import InvalidInputError, MissingExtraError, NotFoundError
from mobile_multimodal.model.program import Program

DETECTOR_SECTION, RECOGNIZER_SECTION = "detector", "recognizer"
LINE_HEIGHT = 48
CHARACTER_PROPERTY = "character"
# Per channel of the exported network (blue, green, red), in 0..255 units.
_DETECTOR_MEAN, _DETECTOR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RECOGNIZER_MEAN, _RECOGNIZER_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
# Two sizes to import with: what comes out must not depend on them.
_DETECTOR_SIZES = ((1, 3, 96, 160), (1, 3, 64, 224))
_RECOGNIZER_SIZES = ((1, 3, LINE_HEIGHT, 320), (1, 3, LINE_HEIGHT, 200))


@dataclass(frozen=True)
class OcrFiles:
    """The two networks."""

    detector: Path
    recognizer: Path


@dataclass(frozen=True)
class TextReader:
    """Both programs; `characters`: the text of the recognizer's classes from class 1 on (class 0 is the blank)."""

    detect: Program
    recognize: Program
    characters: tuple[str, ...]

    def add_to(self, metadata: Metadata) -> None:
        """Writes what a reader of text must know beside the programs."""
        metadata.strings("mm.ocr.characters", self.characters)


def find_ocr_files(source: str, folder: Path) -> OcrFiles:
    """The networks of an installed package, a wheel (unpacked into `folder`) or a folder."""
    path = Path(source)
    if path.is_dir():
        return _pick(source, sorted(path.rglob("*.onnx")))
    if path.suffix == ".whl":
        return _pick(source, _unpack(path, folder))
    try:
        installed = importlib.metadata.files(source) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingExtraError(
            f"the text networks of '{source}' are not installed",
            hint=f"pip install {source}, or name its wheel or a folder with the ONNX files.",
        ) from error
    return _pick(source, [Path(str(file.locate())) for file in installed if file.suffix == ".onnx"])


def build_text_reader(files: OcrFiles, tensors: TensorStore, *, weight_bits: int) -> TextReader:
    """Compiles both networks; weight_bits: 8, or 32 for float."""
    detect = _compile(
        "detect_text",
        files.detector,
        _DETECTOR_SIZES,
        (_DETECTOR_MEAN, _DETECTOR_STD),
        tensors,
        DETECTOR_SECTION,
        weight_bits,
    )
    recognize = _compile(
        "recognize_text",
        files.recognizer,
        _RECOGNIZER_SIZES,
        (_RECOGNIZER_MEAN, _RECOGNIZER_STD),
        tensors,
        RECOGNIZER_SECTION,
        weight_bits,
    )
    return TextReader(detect, recognize, read_characters(files.recognizer))


def read_characters(path: Path) -> tuple[str, ...]:
    """The characters of the classes after the blank: the file's table, then the space."""
    graph = load_graph(path, _RECOGNIZER_SIZES[0])
    if CHARACTER_PROPERTY not in graph.properties:
        raise InvalidInputError(
            f"{path} does not hold its characters (property `{CHARACTER_PROPERTY}`)", hint="take the published file."
        )
    characters = (*graph.properties[CHARACTER_PROPERTY].split("\n"), " ")
    classes = graph.shapes[graph.outputs[0]][-1]
    if classes != len(characters) + 1:
        raise InvalidInputError(
            f"{path} has {classes} classes and {len(characters)} characters",
            hint="one class a character, and the blank.",
        )
    return characters


def _compile(
    name: str,
    path: Path,
    sizes: Sequence[Sequence[int]],
    normalisation: tuple[Sequence[float], Sequence[float]],
    tensors: TensorStore,
    section: str,
    weight_bits: int,
) -> Program:
    first, second = (
        _compile_for(name, path, size, normalisation, store, section, weight_bits)
        for size, store in zip(sizes, (tensors, TensorStore()), strict=True)
    )
    if first != second:
        raise UnsupportedOperationError(
            f"the graph of {path} differs between pictures of {list(sizes[0])} and {list(sizes[1])}",
            hint="export it with dynamic height and width.",
        )
    return first


def _compile_for(
    name: str,
    path: Path,
    size: Sequence[int],
    normalisation: tuple[Sequence[float], Sequence[float]],
    tensors: TensorStore,
    section: str,
    weight_bits: int,
) -> Program:
    graph = fuse(load_graph(path, size))
    _take_rgb(graph, path)
    builder = ProgramBuilder(name, tensors)
    pixels = builder.input("pixels", "u8")
    mean, std = ([255.0 * value for value in reversed(values)] for values in normalisation)
    picture = builder.apply("image_normalize", [pixels], [*mean, *(1.0 / value for value in std)])
    outputs = import_graph(graph, builder, section, {graph.inputs[0]: picture}, weight_bits)
    builder.output("probabilities", outputs[graph.outputs[0]])
    return builder.finish()


def _take_rgb(graph: Graph, path: Path) -> None:
    """Turns the first convolutions' weights round, so that pictures come as red, green, blue."""
    for node in graph.readers(graph.inputs[0]):
        weight = graph.constants.get(node.inputs[1]) if node.operation == "Conv" else None
        if weight is None or weight.shape[1] != 3:
            raise UnsupportedOperationError(
                f"{path} begins with {node.operation}, expected a convolution of 3 channels", hint="take another file."
            )
        name = f"{node.inputs[1]}@rgb"
        graph.constants[name] = np.ascontiguousarray(weight[:, ::-1])
        node.inputs = [node.inputs[0], name, *node.inputs[2:]]


def _unpack(wheel: Path, folder: Path) -> list[Path]:
    if not wheel.is_file():
        raise NotFoundError(f"there is no wheel {wheel}", hint="check the path.")
    paths = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".onnx"):
                path = folder / Path(name).name
                path.write_bytes(archive.read(name))
                paths.append(path)
    return paths


def _pick(source: str, paths: Sequence[Path]) -> OcrFiles:
    """By the names that PaddleOCR gives its networks: .._det_.., .._rec_..."""
    detectors = [path for path in paths if "_det" in path.stem]
    recognizers = [path for path in paths if "_rec" in path.stem]
    if len(detectors) != 1 or len(recognizers) != 1:
        names = ", ".join(path.name for path in paths) or "none"
        raise NotFoundError(
            f"'{source}' holds the ONNX files {names}, expected one *_det* and one *_rec*", hint="name another source."
        )
    return OcrFiles(detectors[0], recognizers[0])
