"""Expands files, folders and patterns of the command line to picture files."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from mobile_multimodal.errors import MobileMultiModalError, NotFoundError
from mobile_multimodal.images import FILE_SUFFIXES


def expand_picture_paths(arguments: Sequence[str]) -> list[str | tuple[str, MobileMultiModalError]]:
    """Paths in the order given, each once; an argument that leads to none stands there with its error.

    A folder gives every picture below it, by suffix and in the order of names. A pattern (`*`, `?`, `[...]`, `**`)
    that is no existing file gives the files that it matches. Any other argument is taken as a file, existing or not.
    """
    found: list[str | tuple[str, MobileMultiModalError]] = []
    seen: set[str] = set()
    for argument in arguments:
        try:
            paths = _paths_of(argument)
        except MobileMultiModalError as error:
            found.append((argument, error))
            continue
        found.extend(path for path in paths if path not in seen)
        seen.update(paths)
    return found


def _paths_of(argument: str) -> list[str]:
    path = Path(argument)
    if "\0" in argument or path.is_file():
        return [argument]
    if path.is_dir():
        pictures = sorted(str(file) for file in path.rglob("*") if file.suffix.lower() in FILE_SUFFIXES)
        if not pictures:
            raise NotFoundError(
                f"folder {argument!r} holds no picture, expected files such as .jpg or .png", "name another folder"
            )
        return pictures
    if glob.has_magic(argument):
        matches = sorted(match for match in glob.glob(argument, recursive=True) if Path(match).is_file())  # noqa: PTH207
        if not matches:
            raise NotFoundError(f"pattern {argument!r} matches no file", "check the pattern, and quote it")
        return matches
    return [argument]
