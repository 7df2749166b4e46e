"""Turns what a request calls an image into the bytes of a picture file: base64, a data URL, or a URL where allowed."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Final

import pybase64
from starlette.requests import Request

from mobile_multimodal.errors import DeadlineExceededError, InvalidInputError
from mobile_multimodal.serving.http.client_connection import while_connected
from mobile_multimodal.serving.http.problems import UnsupportedMediaTypeError
from mobile_multimodal.serving.services import Services

# Below, a hop to a thread costs more than the work: 1 MB of base64 is decoded in about 0.1 ms.
THREAD_BYTES: Final = 1_000_000
_DATA_URL: Final = re.compile(r"data:([^;,]{0,128})((?:;[^;,]{1,128}){0,8}),", re.IGNORECASE)
_SHOWN_CHARACTERS: Final = 40


def is_url(image: str) -> bool:
    """Whether an image names an address instead of being there."""
    return image[:8].lower().startswith(("http://", "https://"))


async def picture_bytes(image: str) -> bytes:
    """The bytes behind base64 or a data URL.

    Raises InvalidInputError (no base64), UnsupportedMediaTypeError (a data URL of anything but a picture).
    """
    if image[:5].lower() == "data:":
        image = _payload_of(image)
    if len(image) > THREAD_BYTES:
        return await asyncio.to_thread(_decode, image)
    return _decode(image)


def _payload_of(url: str) -> str:
    match = _DATA_URL.match(url)
    if match is None:
        raise InvalidInputError(
            f"image {url[:_SHOWN_CHARACTERS]!r}... is no data URL", "write data:image/jpeg;base64, and then the base64"
        )
    media_type, parameters = match[1].lower(), match[2].lower().split(";")
    if not media_type.startswith("image/"):
        raise UnsupportedMediaTypeError(
            f"image is a data URL of type {media_type or 'text/plain'!r}, expected image/*",
            "send a JPEG, PNG, WebP, BMP, GIF, TIFF or PPM file",
        )
    if parameters[-1] != "base64":
        raise InvalidInputError("image is a data URL without base64", "write ;base64, before the data")
    return url[match.end() :]


def _decode(text: str) -> bytes:
    try:
        data = pybase64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error is one; so is what characters beyond ASCII raise
        raise InvalidInputError(
            f"image is no base64: {error}",
            "encode the file's bytes with the standard alphabet, padding and no line breaks (`base64 -w0`)",
        ) from error
    if not data:
        raise InvalidInputError("image is empty, expected the bytes of a picture file", "check how it was encoded")
    return data


async def picture_of(services: Services, request: Request, image: str, *, deadline: float) -> bytes:
    """The bytes of what a request calls an image, fetched by `deadline` (of time.monotonic()) where it is a URL.

    Raises InvalidInputError (no base64, or a URL that is not fetched), UnsupportedMediaTypeError, and what a fetch
    raises.
    """
    if not is_url(image):
        return await picture_bytes(image)
    if services.fetch is None:
        raise InvalidInputError(
            "image is a URL, and this server fetches none", "send the picture itself: as base64, a data URL, or a file"
        )
    fetching = asyncio.wait_for(services.fetch.fetch(image), max(0.0, deadline - time.monotonic()))
    try:
        return await while_connected(services, request, fetching)
    except asyncio.TimeoutError:
        raise DeadlineExceededError("the deadline passed before the picture was fetched", "allow more time") from None
