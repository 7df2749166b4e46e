"""Turns a path, bytes, a PIL picture or an array into the RGB pixels that the core takes, or says why it cannot."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any, Final, TypeAlias, Union

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from mobile_multimodal.errors import (
    ImageTooLargeError,
    InvalidImageError,
    InvalidInputError,
    MobileMultiModalError,
    NotFoundError,
    OutOfMemoryError,
)

Pixels: TypeAlias = npt.NDArray[np.uint8]
ImageSource: TypeAlias = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, Image.Image, npt.NDArray[Any]]

MAX_FILE_BYTES: Final = 50_000_000
MAX_PIXELS: Final = (1 << 28) // 3  # 256 MiB as RGB; Pillow warns from the same number on

# What cameras, phones, browsers and scanners write. Every further decoder is attack surface: Pillow knows about 40.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
FILE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)

# The JPEG decoder may shrink by 2, 4 or 8 on its own; twice the model's side is left for the core's resize to filter.
DRAFT_SIDES: Final = 2

_ORIENTATION_TAG: Final = 0x0112
_TRANSPOSE_OF_ORIENTATION: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE: Final = (255, 255, 255)


def load_image(source: ImageSource, *, model_side: int = 0) -> Pixels:
    """RGB pixels [height, width, 3], uint8, contiguous, upright; transparency lies on white.

    `source` is a path, the bytes of a picture file, a PIL picture, or a uint8 array [h, w], [h, w, 1 | 3 | 4].
    With `model_side`, big JPEGs are decoded at a fraction of their size, at least twice that side.
    Raises InvalidImageError (not a picture, damaged, of zero pixels), ImageTooLargeError (over 50 MB or 89 million
    pixels), NotFoundError (no such file), InvalidInputError (another type).
    """
    if isinstance(source, np.ndarray):
        return _pixels_of_array(source)
    if isinstance(source, Image.Image):
        return _pixels_of_picture(source, "the picture")
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        name = "the picture in memory"
        _check_file_size(name, len(data))
        return _pixels_of_file(io.BytesIO(data), name, model_side)
    if isinstance(source, (str, os.PathLike)):
        return _pixels_at_path(os.fspath(source), model_side)
    raise InvalidInputError(
        f"picture has type {type(source).__name__}, expected a path, bytes, a PIL picture or a numpy array",
        "pass the path of a picture file",
    )


def _pixels_at_path(path: str, model_side: int) -> Pixels:
    name = f"file {path!r}"
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise InvalidInputError(f"{name} is a folder, expected a picture file", "pass the pictures in it")
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInputError(f"{name} is not a regular file", "pass the path of a picture file")
        _check_file_size(name, status.st_size)
        with Path(path).open("rb") as file:
            return _pixels_of_file(file, name, model_side)
    except FileNotFoundError as error:
        is_address = path.startswith(("http://", "https://"))
        hint = "download the picture first: the model works offline" if is_address else "check the path"
        raise NotFoundError(f"{name} does not exist", hint) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(f"{name} cannot be read: {reason}", "check the path and its permissions") from error


def _check_file_size(name: str, size: int) -> None:
    if size == 0:
        raise InvalidImageError(f"{name} is empty, expected a picture", "check how the file was written or sent")
    if size > MAX_FILE_BYTES:
        raise ImageTooLargeError(
            f"{name} has {size} bytes, expected at most {MAX_FILE_BYTES}", "save the picture smaller or as JPEG"
        )


def _check_dimensions(name: str, width: int, height: int) -> None:
    if width <= 0 or height <= 0:
        raise InvalidImageError(f"{name} has {width} x {height} pixels, expected at least 1 x 1", "check its source")
    if width * height > MAX_PIXELS:
        raise ImageTooLargeError(
            f"{name} has {width} x {height} pixels, expected at most {MAX_PIXELS} in all", "shrink the picture first"
        )


def _pixels_of_file(file: Any, name: str, model_side: int) -> Pixels:
    try:
        with Image.open(file, formats=FORMATS) as picture:
            _check_dimensions(name, *picture.size)
            if model_side > 0 and picture.format in ("JPEG", "MPO"):
                picture.draft(None, (DRAFT_SIDES * model_side, DRAFT_SIDES * model_side))
            return _pixels_of_picture(picture, name)
    except MobileMultiModalError:
        raise
    except UnidentifiedImageError as error:
        raise InvalidImageError(
            f"{name} holds no readable picture, expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}",
            "convert it to JPEG or PNG",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(
            f"{name} declares too many pixels, expected at most {MAX_PIXELS}", "shrink the picture first"
        ) from error
    except MemoryError as error:
        raise OutOfMemoryError(f"{name} does not fit in memory", "shrink the picture first") from error
    except Exception as error:  # decoders raise over ten types on damaged files: OSError, SyntaxError, struct.error ...
        raise InvalidImageError(
            f"{name} is damaged or cut off: {error}",
            "send or save the file again",
        ) from error


def _pixels_of_picture(picture: Image.Image, name: str) -> Pixels:
    _check_dimensions(name, *picture.size)
    try:
        picture.load()
        upright = _upright(picture)
        return np.array(_as_rgb(upright, name), dtype=np.uint8)  # a copy: writable and contiguous
    except MobileMultiModalError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError(f"{name} does not fit in memory", "shrink the picture first") from error
    except Exception as error:
        raise InvalidImageError(f"{name} is damaged or cut off: {error}", "send or save the file again") from error


def _upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(_ORIENTATION_TAG)
    except Exception:  # damaged EXIF does not make the pixels unreadable
        return picture
    method = _TRANSPOSE_OF_ORIENTATION.get(orientation) if isinstance(orientation, int) else None
    return picture if method is None else picture.transpose(method)


def _as_rgb(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return _eight_bits(picture, name).convert("RGB")
    if picture.mode == "F":
        raise InvalidImageError(
            f"{name} has floating-point pixels, expected 8 or 16 bits a channel", "save it as PNG with 8 bits"
        )
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        with_alpha = picture.convert("RGBA")
        flat = Image.new("RGB", picture.size, _WHITE)
        flat.paste(with_alpha, mask=with_alpha.getchannel("A"))
        return flat
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image, name: str) -> Image.Image:
    values = np.asarray(picture)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise InvalidImageError(
            f"{name} has pixel values from {low} to {high}, expected 0 to 65535", "save it as PNG with 8 or 16 bits"
        )
    return Image.fromarray((values >> 8).astype(np.uint8))


def _pixels_of_array(array: npt.NDArray[Any]) -> Pixels:
    if array.dtype != np.uint8:
        hint = "multiply values of 0..1 by 255, then .astype(np.uint8)" if array.dtype.kind == "f" else ""
        raise InvalidImageError(
            f"picture array has dtype {array.dtype}, expected uint8", hint or "bring the values to 0..255 as uint8"
        )
    shape = tuple(array.shape)
    channels = 1 if len(shape) == 2 else shape[-1] if len(shape) == 3 else 0
    if channels not in (1, 3, 4):
        hint = "pass pixels as [height, width, channels]"
        if len(shape) == 3 and shape[0] in (1, 3, 4):
            hint = "move the channels last: array.transpose(1, 2, 0)"
        elif len(shape) == 4:
            hint = "pass one picture at a time, or a list of pictures to generate_captions"
        raise InvalidImageError(f"picture array has shape {shape}, expected [h, w] or [h, w, 1 | 3 | 4]", hint)
    _check_dimensions("picture array", shape[1], shape[0])
    pixels = array.reshape(shape[0], shape[1], channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    if channels == 4:
        return _over_white(pixels)
    return np.ascontiguousarray(pixels)


def _over_white(pixels: Pixels) -> Pixels:
    return np.array(_as_rgb(Image.fromarray(np.ascontiguousarray(pixels), "RGBA"), "picture array"), dtype=np.uint8)
