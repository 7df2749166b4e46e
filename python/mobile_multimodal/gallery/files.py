"""Finds the pictures below a folder, reads one with its hash, and tells when it was taken."""

from __future__ import annotations

import datetime
import hashlib
import io
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from mobile_multimodal.errors import ImageTooLargeError, InvalidImageError, InvalidInputError, NotFoundError
from mobile_multimodal.images import FILE_SUFFIXES, FORMATS, MAX_FILE_BYTES

_EXIF_FOLDER: Final = 0x8769
_DATE_ORIGINAL, _DATE_DIGITIZED, _DATE_CHANGED = 0x9003, 0x9004, 0x0132  # EXIF 2.32, 4.6.5 and 4.6.4
_EXIF_DATE: Final = re.compile(r"(\d{4}):(\d\d):(\d\d)[ T](\d\d):(\d\d):(\d\d)")


@dataclass(frozen=True, kw_only=True)
class FileState:
    """What tells without reading that a file has not changed."""

    bytes: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True)
class PictureFile:
    """A file as it was read. `taken` is local time, YYYY-MM-DDTHH:MM:SS."""

    state: FileState
    data: bytes
    sha256: bytes
    taken: str


def find_pictures(folder: Path) -> tuple[list[Path], list[tuple[Path, InvalidInputError]]]:
    """(pictures below the folder by suffix, folders that cannot be read), both in the order of names.

    Names that begin with a dot are left out: thumbnails, trash and copies of resource forks. Links to files are
    followed, links to folders are not, so that a loop has no end to miss.
    """
    found: list[Path] = []
    unreadable: list[tuple[Path, InvalidInputError]] = []
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            with os.scandir(current) as entries:
                named = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            hint = "check its permissions, or index the folders beside it"
            message = f"folder {str(current)!r} cannot be read: {error.strerror}"
            unreadable.append((current, InvalidInputError(message, hint)))
            continue
        waiting.extend(Path(entry.path) for entry in reversed(named) if entry.is_dir(follow_symlinks=False))
        suffixed = (entry for entry in named if os.path.splitext(entry.name)[1].lower() in FILE_SUFFIXES)  # noqa: PTH122
        found.extend(Path(entry.path) for entry in suffixed if _is_file(entry))
    return found, unreadable


def state_of(path: Path) -> FileState | None:
    """The state of a regular file, or None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return FileState(bytes=status.st_size, mtime_ns=status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def read_picture(path: Path) -> PictureFile:
    """The bytes of a file, their hash and their date; the pixels are not decoded.

    Raises NotFoundError, InvalidInputError (cannot be read), InvalidImageError (empty), ImageTooLargeError.
    """
    name = f"file {str(path)!r}"
    try:
        # Not to wait for ever at a pipe that bears the name of a picture.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:  # noqa: PTH123
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInputError(f"{name} is not a regular file", "pass the path of a picture file")
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"{name} does not exist", "check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(f"{name} cannot be read: {reason}", "check the path and its permissions") from error
    if not data:
        raise InvalidImageError(f"{name} is empty, expected a picture", "check how the file was written or sent")
    if len(data) > MAX_FILE_BYTES:
        raise ImageTooLargeError(f"{name} has over {MAX_FILE_BYTES} bytes", "save the picture smaller or as JPEG")
    # The state from before reading: what is written meanwhile leaves a later time behind, and is read again next time.
    state = FileState(bytes=status.st_size, mtime_ns=status.st_mtime_ns)
    taken = exif_date(data) or _local_time(status.st_mtime)
    return PictureFile(state=state, data=data, sha256=hashlib.sha256(data).digest(), taken=taken)


def exif_date(data: bytes) -> str | None:
    """When the camera says that it took the picture, as YYYY-MM-DDTHH:MM:SS; None where it does not say so."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            exif = picture.getexif()
            inner = exif.get_ifd(_EXIF_FOLDER)
            written = [inner.get(_DATE_ORIGINAL), inner.get(_DATE_DIGITIZED), exif.get(_DATE_CHANGED)]
    except Exception:  # Pillow raises over ten types on damaged files; the pixels are judged elsewhere
        return None
    for value in written:
        match = _EXIF_DATE.match(value) if isinstance(value, str) else None
        if match is not None:
            try:
                return datetime.datetime(*(int(part) for part in match.groups())).isoformat()  # type: ignore[arg-type]
            except ValueError:  # 0000:00:00, as cameras without a clock write
                continue
    return None


def _local_time(seconds: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(seconds).isoformat(timespec="seconds")
    except (ValueError, OSError, OverflowError):  # a file system may hold any number
        return datetime.datetime(1970, 1, 1).isoformat()


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
