"""Counts down the time that a call may take, from its first line to its last."""

from __future__ import annotations

import time

from mobile_multimodal.errors import DeadlineExceededError


class Deadline:
    """The end of a call: reading the picture, waiting for other calls and the work all count. 0 seconds is none."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left, or 0 where there is no deadline. Raises DeadlineExceededError when there are none left."""
        if self.seconds <= 0:
            return 0.0
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineExceededError(
                f"the deadline of {self.seconds:g} seconds passed before the model began",
                "allow more time, or pass a smaller picture",
            )
        return left
