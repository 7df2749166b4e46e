"""Finds the index that a search means: the one named, the nearest around the working folder, or the last one made."""

from __future__ import annotations

import os
from pathlib import Path

from mobile_multimodal.errors import NotFoundError
from mobile_multimodal.gallery import INDEX_NAME


def find_index(named: str | None) -> Path:
    """The file of an index. `named` is a file, or a folder with an index in it.

    Raises NotFoundError with the next step.
    """
    if named is not None:
        path = Path(named)
        path = path / INDEX_NAME if path.is_dir() else path
        if not path.is_file():
            raise NotFoundError(f"there is no index {str(path)!r}", "make one: `mobile-mm index FOLDER`")
        return path
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / INDEX_NAME).is_file():
            return folder / INDEX_NAME
    last = _last_index()
    if last is not None and last.is_file():
        return last
    raise NotFoundError(
        f"there is no index in {str(here)!r} or the folders around it",
        "make one: `mobile-mm index FOLDER`, or name it with --index",
    )


def remember_index(path: Path) -> None:
    """Makes this index the one that a search means where no other is near."""
    state = _state_file()
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_bytes(os.fsencode(path))
    except OSError:
        return  # without a home there is nothing to remember in; --index still works


def _last_index() -> Path | None:
    try:
        return Path(os.fsdecode(_state_file().read_bytes()))
    except (OSError, ValueError):
        return None


def _state_file() -> Path:
    """In the folder for states of the XDG base directory specification."""
    folder = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    return Path(folder) / "mobile-mm" / "last-index"
