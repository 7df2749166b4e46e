"""Writes a model file that really reads: a script of eight colors, told apart with the operations of any model.

The picture is white. A line of text is a band without blue: its characters are stripes of eight hues on a circle in the
red-green plane, with stripes of the center's color, the blank, between them. Both programs are linear maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile.container import ALIGNMENT, ARCHITECTURE, Metadata, add_programs, write_container
from mobile_multimodal.compile.program import ProgramBuilder, TensorStore
from mobile_multimodal.model.program import ACTIVATIONS, Program

CHARACTERS = ("a", "b", "c", "d", "e", "é", "字", " ")
CENTER, RADIUS = 128.0, 120.0
SIGMOID = ACTIVATIONS.index("sigmoid")
STEP = 8  # columns a step

Pixels = NDArray[np.uint8]


def hue(character: str) -> tuple[float, float, float]:
    """Eight points on a circle: what lies between one of them and the center is nearest to one of these two."""
    angle = CHARACTERS.index(character) * math.pi / 4
    return (CENTER + RADIUS * math.cos(angle), CENTER + RADIUS * math.sin(angle), 0.0)


def text_band(text: str, height: int, stripe: int) -> Pixels:
    """The band of a line, [height, (2 * len(text) + 1) * stripe, 3]."""
    band = np.empty((height, (2 * len(text) + 1) * stripe, 3), np.uint8)
    band[:] = (round(CENTER), round(CENTER), 0)
    for i, character in enumerate(text):
        band[:, (2 * i + 1) * stripe : (2 * i + 2) * stripe] = np.round(hue(character))
    return band


def page(height: int, width: int, lines: Sequence[tuple[int, int, str]], band: int = 40, stripe: int = 12) -> Pixels:
    """A white page with bands at (x, y)."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    for x, y, text in lines:
        image = text_band(text, band, stripe)
        pixels[y : y + band, x : x + image.shape[1]] = image
    return pixels


def _detector(tensors: TensorStore) -> Program:
    """sigmoid((128 - blue) / 8) of every pixel."""
    builder = ProgramBuilder("detect_text", tensors)
    weight = builder.tensor("detector.w", np.array([[0.0], [0.0], [-1 / 8]], np.float32))
    bias = builder.tensor("detector.b", np.array([16.0], np.float32))
    builder.output("map", builder.apply("linear_f32", [builder.input("picture", "f32"), weight, bias, None], [SIGMOID]))
    return builder.finish()


def _recognizer(tensors: TensorStore, columns: int | None) -> Program:
    """Softmax over how near the mean color of 48 x 8 pixels is to each hue.

    Today's convolution takes one picture: with `columns` all lines have this width and lie below each other in it;
    without, there is one line at a time.
    """
    colors = np.array([(CENTER, CENTER, 0.0), *map(hue, CHARACTERS)])
    weight, bias = 2 * colors.T, -(colors**2).sum(axis=1)  # |x - color|^2 = |x|^2 - (x . weight + bias)
    weight[2, 0] = CENTER  # white is no character; the padding has the center's color already
    kernel = np.broadcast_to(weight / (48 * STEP) * 0.002, (48, STEP, *weight.shape))
    builder = ProgramBuilder("recognize_text", tensors)
    lines = builder.input("lines", "f32")
    strip = builder.apply("reshape", [lines], [48, -1, 3] if columns is None else [-1, columns, 3])
    w = builder.tensor("recognizer.w", kernel.astype(np.float32))
    b = builder.tensor("recognizer.b", (bias * 0.002).astype(np.float32))
    scores = builder.apply("conv2d", [strip, w, b], [48, STEP, 0, 0, 0, 0, 0])
    builder.output("probabilities", builder.apply("softmax", [scores]))
    return builder.finish()


def write_ocr_model(
    path: Path,
    *,
    columns: int | None = None,
    characters: Sequence[str] = CHARACTERS,
    programs: Sequence[str] = ("detect_text", "recognize_text"),
) -> Path:
    """A model file with the named programs; see _recognizer for `columns`."""
    tensors = TensorStore()
    made: dict[str, Any] = {"detect_text": _detector(tensors), "recognize_text": _recognizer(tensors, columns)}
    metadata = Metadata()
    metadata.string("general.architecture", ARCHITECTURE)
    metadata.string("general.name", "small-ocr")
    metadata.u32("general.alignment", ALIGNMENT)
    metadata.u32("mm.format_version", 1)
    if characters:
        metadata.strings("mm.ocr.characters", characters)
    if columns is not None:
        metadata.u32("mm.ocr.line_width", columns)
    add_programs(metadata, [made[name] for name in programs], tensors, [])
    write_container(path, metadata, tensors)
    return path
