"""Finds the file of a model by its name or path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from mobile_multimodal.errors import InvalidInputError, ModelNotFoundError, did_you_mean

FILE_SUFFIX: Final = ".gguf"
FOLDERS_VARIABLE: Final = "MOBILE_MM_MODELS"
PACKAGED_FOLDER: Final = Path(__file__).resolve().parent.parent / "models"
DEFAULT_MODEL: Final = "mobile-mm-llm-int2"


def model_folders() -> list[Path]:
    """Folders that are searched for a name, first one first: those of MOBILE_MM_MODELS, then the package's own."""
    named = os.environ.get(FOLDERS_VARIABLE, "")
    return [Path(entry) for entry in named.split(os.pathsep) if entry] + [PACKAGED_FOLDER]


def available_models() -> dict[str, Path]:
    """Every model that a name can reach; a name found twice is the one in the earlier folder."""
    found: dict[str, Path] = {}
    for folder in model_folders():
        for file in sorted(folder.glob(f"*{FILE_SUFFIX}")):
            found.setdefault(file.name.removesuffix(FILE_SUFFIX), file)
    return found


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a model.

    A value with a path separator or the suffix .gguf, and any PathLike, is a path; everything else is a name.
    Raises ModelNotFoundError with the closest known name.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise InvalidInputError(
            f"model has type {type(name_or_path).__name__}, expected a name or a path", f"pass {DEFAULT_MODEL!r}"
        )
    text = os.fspath(name_or_path)
    if not text:
        raise InvalidInputError("model is empty, expected a name or a path", f"pass {DEFAULT_MODEL!r}")
    is_path = not isinstance(name_or_path, str) or "/" in text or os.sep in text or text.endswith(FILE_SUFFIX)
    if is_path:
        return _existing_file(text)
    models = available_models()
    if text not in models:
        raise ModelNotFoundError(
            f"no model is named {text!r}",
            did_you_mean(text, models) or f"name a {FILE_SUFFIX} file, or a folder with some in {FOLDERS_VARIABLE}",
        )
    return models[text]


def _existing_file(text: str) -> Path:
    path = Path(text)
    try:
        if path.is_dir():
            raise InvalidInputError(f"model {text!r} is a folder, expected a {FILE_SUFFIX} file", "name the file in it")
        if path.is_file():
            return path
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"model {text!r} cannot be read: {error}", "check the path") from error
    names = available_models()
    hint = f"check the path, or use a name: {', '.join(names)}" if names else "check the path"
    raise ModelNotFoundError(f"model file {text!r} does not exist", hint)
