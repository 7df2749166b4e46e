"""Holds the core's resize to Pillow's BILINEAR filter: never more than one level apart."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

native = pytest.importorskip("mobile_multimodal.native")

SIZES = [(1, 1), (1, 7), (37, 53), (224, 224), (375, 500), (1000, 3), (3, 1000), (900, 700), (2, 65535)]
OUT_SIZES = [(224, 224), (1, 1), (3, 5), (300, 10), (37, 53)]


def picture(kind: str, height: int, width: int, channels: int) -> np.ndarray:
    """A picture of one kind; black and white noise is where rounding shows most."""
    generator = np.random.default_rng(height * 31 + width)
    if kind == "noise":
        return generator.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if kind == "black and white":
        return (generator.integers(0, 2, (height, width, channels)) * 255).astype(np.uint8)
    slope = np.arange(height)[:, None, None] * 2 + np.arange(width)[None, :, None] * 3 + np.arange(channels) * 50
    return (slope % 256).astype(np.uint8)


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Gray repeated, transparency laid on white."""
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(int)
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["noise", "black and white", "slope"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_resize_is_within_one_level_of_pillow(height: int, width: int, channels: int, kind: str) -> None:
    pixels = picture(kind, height, width, channels)
    rgb = as_rgb(pixels)
    for out_height, out_width in OUT_SIZES:
        resized = native.resize(pixels, out_height, out_width)
        assert resized.shape == (out_height, out_width, 3)
        assert resized.dtype == np.uint8
        expected = np.asarray(Image.fromarray(rgb).resize((out_width, out_height), Image.Resampling.BILINEAR))
        difference = np.abs(resized.astype(int) - expected)
        # Pillow rounds twice, the core once: half a level plus a whole one, so whole numbers differ by 1 at most.
        assert difference.max() <= 1
        if (out_height, out_width) == (height, width):
            assert difference.max() == 0


def test_resize_reads_pictures_that_are_not_contiguous() -> None:
    pixels = picture("noise", 60, 80, 3)
    expected = native.resize(np.ascontiguousarray(pixels[10:50, 5:65]), 20, 20)
    assert np.array_equal(native.resize(pixels[10:50, 5:65], 20, 20), expected)
    expected = native.resize(np.ascontiguousarray(pixels[::-1, ::-1]), 20, 20)
    assert np.array_equal(native.resize(pixels[::-1, ::-1], 20, 20), expected)
