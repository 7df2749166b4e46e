"""Draws a progress bar on a terminal, and nothing anywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TextIO

_REDRAW_SECONDS = 0.1  # ten times a second looks steady and costs nothing beside a caption


class ProgressBar:
    """`label [#####     ] 12/40 8.3/s`, on stderr so that stdout stays clean; cleared when left."""

    def __init__(self, label: str, total: int, *, stream: TextIO | None = None) -> None:
        self._label = label
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._is_shown = total > 1 and self._stream.isatty()
        self._done = 0
        self._started = time.monotonic()
        self._drawn_at = 0.0

    def advance(self) -> None:
        """Counts one more as done."""
        self._done += 1
        now = time.monotonic()
        if self._is_shown and (now - self._drawn_at >= _REDRAW_SECONDS or self._done == self._total):
            self._drawn_at = now
            self._draw(now - self._started)

    def clear(self) -> None:
        """Removes the bar, so that other text can be printed in its place."""
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn_at = 0.0

    def _draw(self, seconds: float) -> None:
        rate = self._done / seconds if seconds > 0 else 0.0
        counts = f" {self._done}/{self._total} {rate:.1f}/s"
        width = min(40, shutil.get_terminal_size().columns - len(self._label) - len(counts) - 4)
        filled = max(width, 0) * self._done // self._total
        bar = f" [{'#' * filled}{' ' * (width - filled)}]" if width >= 8 else ""
        self._stream.write(f"\r{self._label}{bar}{counts}\x1b[K")
        self._stream.flush()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
