"""Every kind of picture becomes the right RGB pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobile_multimodal import load_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def _quarters() -> Image.Image:
    """32 x 16 pixels; red, green / blue, white."""
    picture = Image.new("RGB", (32, 16))
    for corner, colour in {(0, 0): RED, (16, 0): GREEN, (0, 8): BLUE, (16, 8): WHITE}.items():
        picture.paste(colour, (*corner, corner[0] + 16, corner[1] + 8))
    return picture


def _encoded(picture: Image.Image, format_name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_name, **options)
    return file.getvalue()


def test_all_kinds_of_source_give_the_same_pixels(tmp_path: Path) -> None:
    data = _encoded(_quarters(), "PNG")
    path = tmp_path / "picture with spaces.png"
    path.write_bytes(data)
    expected = np.asarray(_quarters())
    for source in (path, str(path), data, bytearray(data), memoryview(data), _quarters(), expected):
        pixels = load_image(source)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("format_name", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats(format_name: str) -> None:
    data = _encoded(_quarters(), format_name, **({"lossless": True} if format_name == "WEBP" else {}))
    np.testing.assert_array_equal(load_image(data), np.asarray(_quarters()))


def test_jpeg_is_close() -> None:
    pixels = load_image(_encoded(_quarters(), "JPEG", quality=95, subsampling=0))
    assert np.abs(pixels.astype(int) - np.asarray(_quarters())).mean() < 6


def test_gif_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    data = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert tuple(load_image(data)[0, 0]) == RED


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(orientation: int) -> None:
    turn_back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = _quarters().transpose(turn_back[orientation]) if orientation > 1 else _quarters()
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = load_image(_encoded(stored, "PNG", exif=exif))
    np.testing.assert_array_equal(pixels, np.asarray(_quarters()))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_ignored() -> None:
    pixels = load_image(_encoded(_quarters(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40))
    assert pixels.shape == (16, 32, 3)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, WHITE),
        ("L", 7, (7, 7, 7)),
        ("LA", (0, 0), WHITE),
        ("LA", (10, 255), (10, 10, 10)),
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("RGBA", (*RED, 255), RED),
        ("CMYK", (0, 0, 0, 0), WHITE),
        ("I;16", 0x8042, (0x80, 0x80, 0x80)),
        ("I", 65535, WHITE),
        ("YCbCr", (255, 128, 128), WHITE),
    ],
)
def test_modes(mode: str, colour: Any, expected: tuple[int, int, int]) -> None:
    assert tuple(load_image(Image.new(mode, (3, 2), colour))[1, 2]) == expected


def test_a_palette_with_a_transparent_colour_lies_on_white() -> None:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([*RED, *BLUE])
    assert tuple(load_image(_encoded(picture, "PNG"))[0, 0]) == BLUE
    assert tuple(load_image(_encoded(picture, "PNG", transparency=1))[0, 0]) == WHITE
    assert tuple(load_image(_encoded(Image.new("RGB", (4, 4), RED), "PNG", transparency=RED))[0, 0]) == WHITE


def test_a_16_bit_png_keeps_its_high_byte() -> None:
    data = _encoded(Image.fromarray(np.full((3, 5), 0xABCD, np.uint16)), "PNG")
    assert tuple(load_image(data)[0, 0]) == (0xAB,) * 3


def test_cmyk_jpeg() -> None:
    data = _encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = load_image(data)[8, 8].astype(int)
    assert red > 230
    assert green < 40
    assert blue < 40


def test_big_jpegs_are_decoded_smaller_but_at_least_twice_the_models_side() -> None:
    data = _encoded(Image.new("RGB", (4000, 3000), RED), "JPEG")
    assert load_image(data).shape == (3000, 4000, 3)
    assert load_image(data, model_side=224).shape == (750, 1000, 3)  # 1/4; 1/8 would be 375 < 448 pixels high
    small = _encoded(Image.new("RGB", (640, 480), RED), "JPEG")
    assert load_image(small, model_side=224).shape == (480, 640, 3)


def test_the_shrunk_decoding_keeps_colour_and_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = load_image(_encoded(Image.new("RGB", (2000, 1000), BLUE), "JPEG", exif=exif), model_side=100)
    height, width = pixels.shape[:2]
    assert height == 2 * width
    assert pixels[5, 5, 2] > 240
    assert pixels[5, 5, 0] < 15


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_arrays(shape: tuple[int, ...]) -> None:
    array = np.arange(35, dtype=np.uint8).reshape(shape)
    pixels = load_image(array)
    assert pixels.shape == (5, 7, 3)
    assert (pixels == array.reshape(5, 7, 1)).all()


def test_arrays_with_alpha_and_with_gaps() -> None:
    assert (load_image(np.zeros((2, 2, 4), np.uint8)) == 255).all()
    wide = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    for view in (wide[::2, ::-1], wide.transpose(1, 0, 2), wide[:, :, ::-1]):
        pixels = load_image(view)
        assert pixels.flags.c_contiguous
        np.testing.assert_array_equal(pixels, view)


def test_the_callers_picture_is_left_as_it_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    _quarters().save(path, exif=exif)
    with Image.open(path) as picture:
        assert load_image(picture, model_side=2).shape == (32, 16, 3)
        assert picture.size == (32, 16)
        assert picture.getexif()[0x0112] == 6
    grey = Image.new("L", (4, 4), 9)
    load_image(grey)[:] = 0
    assert grey.getpixel((0, 0)) == 9


def test_the_sample_pictures(pictures: Path) -> None:
    files = sorted(pictures.glob("*.jpg"))
    assert len(files) >= 4
    origin = (pictures / "ORIGIN.md").read_text(encoding="utf-8")
    for file in files:
        assert load_image(file).shape[2] == 3
        assert f"`{file.name}`" in origin
