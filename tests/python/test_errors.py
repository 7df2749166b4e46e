"""Walks the tables of errors.py: no status, exception, exit code or HTTP status may be forgotten."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

import mobile_multimodal
from mobile_multimodal import errors
from mobile_multimodal.errors import (
    ERROR_OF_STATUS,
    EXIT_CODE_OF_ERROR,
    HTTP_STATUS_OF_ERROR,
    ImageTooLargeError,
    InternalError,
    InvalidInputError,
    MissingExtraError,
    MobileMultiModalError,
    did_you_mean,
    error_from_status,
    exit_code_of,
    http_status_of,
)


def _all_errors() -> list[type[MobileMultiModalError]]:
    found = [MobileMultiModalError]
    for error_type in found:
        found.extend(error_type.__subclasses__())
    return [error_type for error_type in found[1:] if error_type.__module__ == "mobile_multimodal.errors"]


@pytest.mark.parametrize("error_type", _all_errors())
def test_every_error_has_an_exit_code_an_http_status_and_a_public_name(error_type: type[MobileMultiModalError]) -> None:
    error = error_type("a thing is 3, expected 4", "make it 4")
    assert 1 < exit_code_of(error) < 256
    assert 400 <= http_status_of(error) < 600
    assert getattr(mobile_multimodal, error_type.__name__) is error_type
    assert error_type.__name__ in mobile_multimodal.__all__


def test_every_core_status_has_its_exception(root: Path) -> None:
    header = (root / "core/src/base/status.h").read_text(encoding="utf-8")
    enum = re.search(r"enum class StatusCode[^{]*\{(.*?)\};", header, re.DOTALL)
    assert enum is not None
    codes = {int(code): name for name, code in re.findall(r"(\w+) = (\d+)", enum[1]) if name != "ok"}
    assert set(codes) == set(ERROR_OF_STATUS)
    for code, name in codes.items():
        assert name.replace("_", "") in ERROR_OF_STATUS[code].__name__.lower()
        error = error_from_status(code, "what", "next")
        assert (type(error), error.message, error.hint) == (ERROR_OF_STATUS[code], "what", "next")


def test_an_unknown_status_is_an_internal_error() -> None:
    error = error_from_status(99, "from the future")
    assert type(error) is InternalError
    assert str(error) == "the core failed with unknown status 99: from the future"


def test_exit_codes_tell_families_apart() -> None:
    assert len(set(EXIT_CODE_OF_ERROR.values())) == len(EXIT_CODE_OF_ERROR)
    assert set(ERROR_OF_STATUS.values()) <= set(EXIT_CODE_OF_ERROR)
    assert set(ERROR_OF_STATUS.values()) <= set(HTTP_STATUS_OF_ERROR)


def test_descendants_fall_back_to_their_ancestor() -> None:
    assert exit_code_of(ImageTooLargeError("x")) == EXIT_CODE_OF_ERROR[errors.InvalidImageError]
    assert http_status_of(MissingExtraError("x")) == HTTP_STATUS_OF_ERROR[errors.UnsupportedError]
    assert exit_code_of(RuntimeError("x")) == 70
    assert exit_code_of(KeyboardInterrupt()) == 130
    assert http_status_of(RuntimeError("x")) == 500


def test_the_documented_exit_codes_are_those_of_the_table(root: Path) -> None:
    text = (root / "docs/cli.md").read_text(encoding="utf-8")
    documented = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| `(\w+)`", text, re.MULTILINE)}
    assert documented == {error_type.__name__: code for error_type, code in EXIT_CODE_OF_ERROR.items()}


def test_the_tree_at_the_top_of_the_file_is_the_tree() -> None:
    drawn = re.findall(r"([│├└─ ]*)(\w+Error)\b", (errors.__doc__ or "").split("\n\n", 1)[1])
    names = [name for _, name in drawn]
    assert sorted(names) == sorted(error_type.__name__ for error_type in [MobileMultiModalError, *_all_errors()])
    path: list[str] = []
    for branch, name in drawn:
        depth = len(branch) // 4
        path[depth:] = [name]
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        assert bases == ([path[depth - 1]] if depth else ["Exception"])


def test_text_and_pickling() -> None:
    error = InvalidInputError("setting a is 1, expected 2", "choose 2")
    assert str(error) == "setting a is 1, expected 2\nhint: choose 2"
    assert str(InvalidInputError("no hint")) == "no hint"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.hint) == (InvalidInputError, error.message, error.hint)


def test_did_you_mean() -> None:
    assert did_you_mean("max_token", ["max_tokens", "seed"]) == "did you mean 'max_tokens'?"
    assert did_you_mean("zzz", ["a", "b"]) == "known: a, b"
    assert did_you_mean("zzz", []) == ""


def test_when_to_come_back_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(errors.QueueFullError("the queue is full", "wait", retry_after_seconds=2.5)))
    assert type(error) is errors.QueueFullError
    assert (error.message, error.hint, error.retry_after_seconds) == ("the queue is full", "wait", 2.5)
