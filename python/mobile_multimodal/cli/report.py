"""Writes results and failures as they come, around the progress bar."""

from __future__ import annotations

import json
import sys
from typing import Any, Final, Protocol

from mobile_multimodal.cli.progress import ProgressBar
from mobile_multimodal.errors import MobileMultiModalError, exit_code_of

EXIT_SOME_FAILED: Final = 1


class PictureResult(Protocol):
    """What a task gives for a picture: `str()` is for people, `to_dict()` for JSON."""

    def to_dict(self) -> dict[str, Any]: ...


class Report:
    """Results on stdout, failures on stderr; the exit code at the end."""

    def __init__(self, *, as_json: bool, pictures: int) -> None:
        self.progress: ProgressBar | None = None
        self.first_error: MobileMultiModalError | None = None
        self._as_json = as_json
        self._pictures = pictures

    def result(self, path: str, result: PictureResult | MobileMultiModalError) -> None:
        """Prints a result, each of its lines behind the path when there are several pictures; or a failure."""
        if isinstance(result, MobileMultiModalError):
            self.failure(path, result)
            return
        self._clear_progress()
        if self._as_json:
            print(json.dumps({"path": path, **result.to_dict()}, ensure_ascii=False), flush=True)
        else:
            prefix = f"{path}: " if self._pictures > 1 else ""
            for line in str(result).split("\n"):  # splitlines() would also split at rarer characters
                print(f"{prefix}{line}", flush=True)
        self.advance()

    def failure(self, path: str, error: MobileMultiModalError) -> None:
        self.first_error = self.first_error or error
        self._clear_progress()
        if self._as_json:
            record = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
            print(json.dumps({"path": path, "error": record}, ensure_ascii=False), flush=True)
        print(f"mobile-mm: {error}", file=sys.stderr, flush=True)
        self.advance()

    def begin_stream(self, path: str) -> None:
        self._clear_progress()
        if self._pictures > 1:
            print(f"{path}: ", end="", flush=True)

    def advance(self) -> None:
        if self.progress is not None:
            self.progress.advance()

    def exit_code(self) -> int:
        """0, the code of a single picture's failure, or EXIT_SOME_FAILED."""
        if self.first_error is None:
            return 0
        return exit_code_of(self.first_error) if self._pictures == 1 else EXIT_SOME_FAILED

    def _clear_progress(self) -> None:
        if self.progress is not None:
            self.progress.clear()
