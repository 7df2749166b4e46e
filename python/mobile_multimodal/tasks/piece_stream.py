"""Yields what the core writes piece by piece, on a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

TokenCallback = Callable[[int, str, float], bool]

_Piece = TypeVar("_Piece")
_Whole = TypeVar("_Whole")
_Self = TypeVar("_Self", bound="PieceStream")  # type: ignore[type-arg]


class _Ended(Generic[_Whole]):
    def __init__(self, whole: _Whole) -> None:
        self.whole = whole


class PieceStream(Iterator[_Piece], Generic[_Piece, _Whole]):
    """An iterator over pieces; a subclass shows the whole, which is there after the last of them.

    Closing early (or leaving the `with` block) cancels the rest.
    """

    def __init__(
        self, write: Callable[[TokenCallback], _Whole], make_piece: Callable[[str, int, float], _Piece]
    ) -> None:
        self._events: queue.SimpleQueue[_Piece | _Ended[_Whole] | BaseException] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._whole: _Whole | None = None
        self._finished = False
        # The thread holds the queue and the event, not the stream: an abandoned stream is collected, which cancels it.
        # It is no daemon: leaving the interpreter waits for the piece under way instead of tearing the core down in it.
        self._thread = threading.Thread(
            target=_write_events, args=(write, make_piece, self._events, self._cancelled), name="mobile-mm-stream"
        )
        self._thread.start()

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> _Piece:
        if self._finished:
            raise StopIteration
        event = self._events.get()
        if not isinstance(event, (_Ended, BaseException)):
            return event
        self._finished = True
        self._thread.join()
        if isinstance(event, BaseException):
            raise event
        self._whole = event.whole
        raise StopIteration

    def close(self) -> None:
        """Stops the writing after the piece under way and waits for its thread; errors after this are dropped."""
        self._cancelled.set()
        self._finished = True
        self._thread.join()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._cancelled.set()


def _write_events(
    write: Callable[[TokenCallback], _Whole],
    make_piece: Callable[[str, int, float], _Piece],
    events: queue.SimpleQueue[_Piece | _Ended[_Whole] | BaseException],
    cancelled: threading.Event,
) -> None:
    def receive(token: int, text: str, probability: float) -> bool:
        events.put(make_piece(text, token, probability))
        return not cancelled.is_set()

    try:
        events.put(_Ended(write(receive)))
    except BaseException as error:  # handed to the reader's thread, which raises it
        events.put(error)
