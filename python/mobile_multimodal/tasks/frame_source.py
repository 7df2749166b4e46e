"""Reads frames on a thread of its own into a place for one: full, the source waits, or the frame in it is dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mobile_multimodal.errors import FrameSourceError, MobileMultiModalError, OperationCancelledError
from mobile_multimodal.images import ImageSource, Pixels
from mobile_multimodal.tasks.cancellation import Cancellation

# A cancellation is set by another thread without waking this one: looked at 50 times a second while no frame comes.
_CANCEL_POLL_SECONDS: Final = 0.02
# The interpreter waits for this thread at its end and tells nobody: a stream that was left open must not keep it.
_EXIT_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True)
class ReadFrame:
    """A frame as the model sees it, with its miniature; or the error of a frame that is no picture."""

    index: int
    timestamp_seconds: float
    square: Pixels | None
    miniature: npt.NDArray[np.float32] | None
    error: MobileMultiModalError | None
    dropped: int = 0


@dataclass(frozen=True)
class SourceEnd:
    """No frame comes any more: the source is at its end, or failed."""

    error: FrameSourceError | None = None


class _Place:
    """A place for one frame, and the end behind it. The thread knows this alone, so that a dropped stream is freed."""

    def __init__(self, drops: bool) -> None:
        self.drops = drops
        self.changed = threading.Condition()
        self.frame: ReadFrame | None = None
        self.dropped = 0
        self.end: SourceEnd | None = None
        self.stopped = False

    def put(self, frame: ReadFrame) -> bool:
        """Lays a frame down, in the place of the one before or after it was taken; False when nobody wants more."""
        with self.changed:
            while not self.drops and self.frame is not None and self.is_wanted:
                self.changed.wait(_EXIT_POLL_SECONDS)
            if not self.is_wanted:
                return False
            self.dropped += self.frame is not None
            self.frame = frame
            self.changed.notify_all()
            return True

    @property
    def is_wanted(self) -> bool:
        """Whether somebody may still take a frame: not after a stop, nor when the interpreter ends."""
        return not self.stopped and threading.main_thread().is_alive()

    def finish(self, end: SourceEnd) -> None:
        with self.changed:
            self.end = end
            self.changed.notify_all()


class FrameReader:
    """The thread that reads a source, and the place where its frames are taken from."""

    def __init__(
        self,
        source: Iterator[Any],
        scale: Callable[[ImageSource], Pixels],
        miniature: Callable[[Pixels], npt.NDArray[np.float32]],
        *,
        drops: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._place = _Place(drops)
        # No daemon: leaving the interpreter waits for the frame under way instead of tearing the core down in it.
        self._thread = threading.Thread(
            target=_read, args=(source, scale, miniature, self._place, clock), name="mobile-mm-frames"
        )
        self._thread.start()

    def take(self, cancellation: Cancellation | None) -> ReadFrame | SourceEnd:
        """The next frame, when it has come; raises OperationCancelledError when that is cancelled."""
        place = self._place
        with place.changed:
            while place.frame is None and place.end is None:
                if cancellation is None:
                    place.changed.wait()
                elif not place.changed.wait(_CANCEL_POLL_SECONDS) and cancellation.is_cancelled:
                    raise OperationCancelledError("the stream of frames was cancelled", "")
            if place.frame is None:
                assert place.end is not None
                return place.end
            taken, place.frame = place.frame, None
            dropped, place.dropped = place.dropped, 0
            place.changed.notify_all()
        return ReadFrame(
            taken.index, taken.timestamp_seconds, taken.square, taken.miniature, taken.error, dropped=dropped
        )

    def stop(self) -> None:
        """Asks the thread to end; does not wait."""
        with self._place.changed:
            self._place.stopped = True
            self._place.frame = None
            self._place.changed.notify_all()

    def close(self) -> None:
        """Ends the thread and waits for it: for as long as the source takes for the frame under way."""
        self.stop()
        if self._thread is not threading.current_thread():
            self._thread.join()


def _read(
    source: Iterator[Any],
    scale: Callable[[ImageSource], Pixels],
    miniature: Callable[[Pixels], npt.NDArray[np.float32]],
    place: _Place,
    clock: Callable[[], float],
) -> None:
    begun = clock()
    index = 0
    end = SourceEnd()
    try:
        while place.is_wanted:
            try:
                source_frame = next(source)
            except StopIteration:
                break
            timestamp = clock() - begun
            try:
                square = scale(source_frame)
                frame = ReadFrame(index, timestamp, square, miniature(square), None)
            except MobileMultiModalError as error:
                frame = ReadFrame(index, timestamp, None, None, error)
            if not place.put(frame):
                break
            index += 1
    except BaseException as error:  # handed to the reader of the stream, which raises it
        end = SourceEnd(_source_error(index, error))
    finally:
        try:
            close = getattr(source, "close", None)  # a generator's own `finally` runs now, on the thread that ran it
            if close is not None:
                close()
        except BaseException as error:
            end = SourceEnd(_source_error(index, error))
        finally:
            place.finish(end)


def _source_error(index: int, error: BaseException) -> FrameSourceError:
    wrapped = FrameSourceError(
        f"the source of frames failed at frame {index}: {type(error).__name__}: {error}",
        "its exception is the `__cause__` of this one",
    )
    wrapped.__cause__ = error
    return wrapped
