"""Each kind of bad picture gives one typed error with thing, value, expectation and next step."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobile_multimodal import (
    ImageTooLargeError,
    InvalidImageError,
    InvalidInputError,
    MobileMultiModalError,
    NotFoundError,
    load_image,
)
from mobile_multimodal.images import MAX_FILE_BYTES


def _encoded(format_name: str, size: tuple[int, int] = (64, 48)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, format_name)
    return file.getvalue()


def _png(width: int, height: int) -> bytes:
    """A PNG that declares a size and brings almost no data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 64)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("source", "error_type", "message", "hint"),
    [
        ("no/such.jpg", NotFoundError, "file 'no/such.jpg' does not exist", "check the path"),
        (
            "https://example.org/a.jpg",
            NotFoundError,
            "file 'https://example.org/a.jpg' does not exist",
            "download the picture first: the model works offline",
        ),
        ("/", InvalidInputError, "file '/' is a folder, expected a picture file", "pass the pictures in it"),
        (
            "a\0b",
            InvalidInputError,
            "file 'a\\x00b' cannot be read: embedded null byte",
            "check the path and its permissions",
        ),
        (
            b"",
            InvalidImageError,
            "the picture in memory is empty, expected a picture",
            "check how the file was written or sent",
        ),
        (
            b"hello, this is no picture",
            InvalidImageError,
            "the picture in memory holds no readable picture, expected JPEG, PNG, WEBP, BMP, GIF, TIFF or PPM",
            "convert it to JPEG or PNG",
        ),
        (
            Image.new("RGB", (0, 5)),
            InvalidImageError,
            "the picture has 0 x 5 pixels, expected at least 1 x 1",
            "check its source",
        ),
        (
            None,
            InvalidInputError,
            "picture has type NoneType, expected a path, bytes, a PIL picture or a numpy array",
            "pass the path of a picture file",
        ),
        (
            [[1, 2], [3, 4]],
            InvalidInputError,
            "picture has type list, expected a path, bytes, a PIL picture or a numpy array",
            "pass the path of a picture file",
        ),
        (
            np.zeros((4, 4, 3), np.float32),
            InvalidImageError,
            "picture array has dtype float32, expected uint8",
            "multiply values of 0..1 by 255, then .astype(np.uint8)",
        ),
        (
            np.full((4, 4, 3), -5),
            InvalidImageError,
            "picture array has dtype int64, expected uint8",
            "bring the values to 0..255 as uint8",
        ),
        (
            np.zeros((3, 8, 8), np.uint8),
            InvalidImageError,
            "picture array has shape (3, 8, 8), expected [h, w] or [h, w, 1 | 3 | 4]",
            "move the channels last: array.transpose(1, 2, 0)",
        ),
        (
            np.zeros((2, 8, 8, 3), np.uint8),
            InvalidImageError,
            "picture array has shape (2, 8, 8, 3), expected [h, w] or [h, w, 1 | 3 | 4]",
            "pass one picture at a time, or a list of pictures to generate_captions",
        ),
        (
            np.zeros((8, 8, 2), np.uint8),
            InvalidImageError,
            "picture array has shape (8, 8, 2), expected [h, w] or [h, w, 1 | 3 | 4]",
            "pass pixels as [height, width, channels]",
        ),
        (
            np.zeros((0, 8, 3), np.uint8),
            InvalidImageError,
            "picture array has 8 x 0 pixels, expected at least 1 x 1",
            "check its source",
        ),
        (
            np.zeros((), np.uint8),
            InvalidImageError,
            "picture array has shape (), expected [h, w] or [h, w, 1 | 3 | 4]",
            "pass pixels as [height, width, channels]",
        ),
        (
            Image.new("F", (4, 4)),
            InvalidImageError,
            "the picture has floating-point pixels, expected 8 or 16 bits a channel",
            "save it as PNG with 8 bits",
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_message(source: Any, error_type: type[MobileMultiModalError], message: str, hint: str) -> None:
    with pytest.raises(MobileMultiModalError) as caught:
        load_image(source)
    assert type(caught.value) is error_type
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(("width", "height"), [(9000, 9950), (20000, 20000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_decompression_bombs_are_refused_before_any_pixel_is_decoded(width: int, height: int, action: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action, Image.DecompressionBombWarning)
        with pytest.raises(ImageTooLargeError, match="pixels, expected at most 89478485"):
            load_image(_png(width, height))


def test_pictures_of_zero_pixels() -> None:
    for data in (_png(0, 5), _png(5, 0), b"P6 0 5 255\n", b"P6 5 0 255\n"):
        with pytest.raises(InvalidImageError):
            load_image(data)


def test_a_file_over_50_mb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse: takes no space
    with pytest.raises(ImageTooLargeError, match="has 50000001 bytes, expected at most 50000000"):
        load_image(path)
    with pytest.raises(ImageTooLargeError, match="the picture in memory has 50000001 bytes"):
        load_image(bytes(MAX_FILE_BYTES + 1))


def test_special_files_are_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(InvalidInputError, match="is not a regular file"):
            load_image(path)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_truncated_files(format_name: str) -> None:
    data = _encoded(format_name)
    for kept in (0.05, 0.3, 0.6, 0.9):
        with pytest.raises(InvalidImageError):
            load_image(data[: int(len(data) * kept)])


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_damaged_bytes_give_pixels_or_a_typed_error(format_name: str) -> None:
    data = _encoded(format_name, (24, 16))
    generator = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(data)
        for place in generator.integers(0, min(len(data), 400), 4):
            damaged[place] = generator.integers(0, 256)
        try:
            assert load_image(damaged, model_side=8).shape[2] == 3
        except MobileMultiModalError as error:
            assert error.hint


def test_a_format_that_is_not_on_the_list(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PCX")
    with pytest.raises(InvalidImageError, match="holds no readable picture"):
        load_image(file.getvalue())


def test_a_file_without_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    path = tmp_path / "secret.png"
    path.write_bytes(_encoded("PNG"))
    path.chmod(0)
    with pytest.raises(InvalidInputError, match="cannot be read: Permission denied"):
        load_image(path)
