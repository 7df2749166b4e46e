"""Holds the core's crop of a quadrilateral to Pillow's projective transform."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mobile_multimodal import InvalidInputError

native = pytest.importorskip("mobile_multimodal.native")


def projective(quad: NDArray[np.float64], height: int, width: int) -> list[float]:
    """Pillow's eight numbers: output pixel to input pixel, by the equations of the four corners."""
    rows, values = [], []
    for (u, v), (x, y) in zip([(0, 0), (width, 0), (width, height), (0, height)], quad, strict=True):
        rows += [[u, v, 1, 0, 0, 0, -u * x, -v * x], [0, 0, 0, u, v, 1, -u * y, -v * y]]
        values += [x, y]
    return list(np.linalg.solve(np.array(rows, np.float64), np.array(values)))


@pytest.mark.parametrize("seed", range(12))
def test_crop_is_within_one_level_of_pillow(seed: int) -> None:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    # Quadrilaterals no larger than the strip: nothing is shrunk, so that Pillow's one sample a pixel will do.
    quad = np.array([(40, 40), (100, 40), (100, 75), (40, 75)]) + generator.uniform(-8, 8, (4, 2))
    angle = generator.uniform(-0.5, 0.5)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    quad = (quad - (70, 57)) @ turn + (75, 60)
    found = native.crop_line(pixels, list(quad.ravel()), 64, 128)
    expected = Image.fromarray(pixels).transform(
        (128, 64), Image.Transform.PERSPECTIVE, projective(quad, 64, 128), Image.Resampling.BILINEAR
    )
    # Pillow cuts off where the core rounds.
    difference = found.astype(int) - np.asarray(expected)
    assert difference.min() >= -1
    assert difference.max() <= 1


def test_what_is_no_crop_is_refused() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    for corners, height, width in (([0.0] * 7, 48, 10), ([0.0] * 8, 0, 10), ([0.0] * 8, 48, 70000)):
        with pytest.raises(InvalidInputError, match="expected 8 numbers"):
            native.crop_line(pixels, corners, height, width)
