"""Lets another thread end a call of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobile_multimodal import native


class Cancellation:
    """Given to a call; `cancel()` from any thread ends that call with OperationCancelledError, within milliseconds.

    Make one for each call. It may be cancelled before its call begins, which then ends at once, or after it has ended,
    which changes nothing: nothing is ever reset, so no cancel is lost and none hits another call.
    """

    def __init__(self) -> None:
        from mobile_multimodal import native  # not before there is something to cancel: the import maps the core

        self._flag = native.Cancellation()

    def cancel(self) -> None:
        """Ends the call; may be repeated."""
        self._flag.cancel()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._flag.is_cancelled


def flag_of(cancellation: Cancellation | None) -> native.Cancellation | None:
    """What the core takes."""
    return None if cancellation is None else cancellation._flag
