"""Remembers pictures that were with workers when these ended, so that no picture ends one worker after another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

MOST_PICTURES: Final = 1024
BARRED_SECONDS: Final = 600.0
LOSSES_TO_BE_BARRED: Final = 2


class Quarantine:
    """A picture that was there at two ends, with no success between, is barred for ten minutes.

    A worker may be killed from outside, so one end proves nothing, and the bar does not last.
    """

    def __init__(self) -> None:
        self._losses: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def blame(self, picture_keys: Iterable[str], now: float) -> None:
        """A worker ended with these."""
        for key in {key for key in picture_keys if key}:
            self._losses[key] = (self.losses_of(key, now) + 1, now)
            self._losses.move_to_end(key)
        while len(self._losses) > MOST_PICTURES:
            self._losses.popitem(last=False)

    def clear(self, picture_key: str) -> None:
        """A worker got through with it."""
        self._losses.pop(picture_key, None)

    def losses_of(self, picture_key: str, now: float) -> int:
        """How many workers ended with that picture, in the last ten minutes."""
        losses, last = self._losses.get(picture_key, (0, now))
        return losses if now - last < BARRED_SECONDS else 0

    def is_barred(self, picture_key: str, now: float) -> bool:
        """Whether no worker should see that picture."""
        return self.losses_of(picture_key, now) >= LOSSES_TO_BE_BARRED
