"""Runs a task on frames as they come: reads ahead on a thread, skips what did not change, drops what comes too late."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobile_multimodal.errors import InvalidInputError, MobileMultiModalError, OperationCancelledError
from mobile_multimodal.images import ImageSource, Pixels
from mobile_multimodal.settings import check_number
from mobile_multimodal.tasks.cancellation import Cancellation
from mobile_multimodal.tasks.frame_source import FrameReader, ReadFrame, SourceEnd

Frames: TypeAlias = Iterable[ImageSource] | Callable[[], "ImageSource | None"]
Result = TypeVar("Result")

MINIATURE_SIDE: Final = 32
# In grey levels of 0 to 255. docs/adaptive.md measures pairs: noise and new JPEG coding of a still scene stay
# below 0.6, light that changes by 1 % below 1.1; a thing of a quarter of the side that comes in lies above 1.9.
CHANGE_THRESHOLD: Final = 1.2


@dataclass(frozen=True, kw_only=True)
class FrameResult(Generic[Result]):
    """What a stream says about one frame.

    index              of the frame in the source, from 0; dropped frames count
    timestamp_seconds  when the source had delivered it, since the stream began
    result             of the frame, or of the last one that was worked on where it did not change; None with an error
    is_repeated        whether it did not change: `result` is the very same object as before
    difference         from the last frame that was worked on, in grey levels; infinite for the first
    dropped            frames of the source that were left out between the result before and this one
    error              why there is no result (on_error="return")
    """

    index: int
    timestamp_seconds: float
    result: Result | None
    is_repeated: bool
    difference: float
    dropped: int
    error: MobileMultiModalError | None = None


@dataclass(frozen=True, kw_only=True)
class FrameStatistics:
    """What a stream has done so far.

    delivered   frames with a FrameResult; the others count among them
    worked_on   frames that were captioned or embedded
    repeated    frames that had not changed
    failed      frames with an error
    dropped     frames of the source that were left out because they came too late
    seconds     from the first frame that was asked for to the last result
    """

    delivered: int
    worked_on: int
    repeated: int
    failed: int
    dropped: int
    seconds: float

    @property
    def frames_per_second(self) -> float:
        """Delivered frames a second."""
        return self.delivered / self.seconds if self.seconds > 0 else 0.0

    @property
    def worked_on_per_second(self) -> float:
        """Captioned or embedded frames a second."""
        return self.worked_on / self.seconds if self.seconds > 0 else 0.0


def miniature(square: Pixels) -> npt.NDArray[np.float32]:
    """A square of pixels [s, s, 3] as 32 x 32 grey levels, each the mean of its part."""
    from mobile_multimodal import native

    # The core's resize averages over what a pixel covers; the mean of the colors does for grey.
    small = native.resize(square, MINIATURE_SIDE, MINIATURE_SIDE)
    grey: npt.NDArray[np.float32] = small.mean(axis=2, dtype=np.float32)
    return grey


class FrameStream(Iterator[FrameResult[Result]]):
    """The results of frames, in their order. Reading and scaling run ahead by one frame, on a thread of the stream."""

    def __init__(
        self,
        frames: Frames,
        scale: Callable[[ImageSource], Pixels],
        work: Callable[[Pixels], Result],
        *,
        live: bool,
        change_threshold: float,
        on_error: Literal["raise", "return"],
        cancellation: Cancellation | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        check_number("change_threshold", change_threshold, -1.0, 255.0)
        if on_error not in ("raise", "return"):
            raise InvalidInputError(
                f"setting on_error is {on_error!r}, expected 'raise' or 'return'", "pass one of them"
            )
        self._work, self._threshold = work, change_threshold
        self._raises, self._cancellation = on_error == "raise", cancellation
        self._clock = clock
        self._reader = FrameReader(_next_of(frames), scale, miniature, drops=live, clock=clock)
        self._begun: float | None = None
        self._ended = 0.0
        self._closed = False
        self._last: tuple[npt.NDArray[np.float32], Result] | None = None
        self._delivered = self._worked_on = self._repeated = self._failed = self._dropped = 0

    @property
    def statistics(self) -> FrameStatistics:
        """What was done so far; readable after the end too."""
        return FrameStatistics(
            delivered=self._delivered,
            worked_on=self._worked_on,
            repeated=self._repeated,
            failed=self._failed,
            dropped=self._dropped,
            seconds=0.0 if self._begun is None else self._ended - self._begun,
        )

    def __iter__(self) -> FrameStream[Result]:
        return self

    def __next__(self) -> FrameResult[Result]:
        if self._closed:
            raise StopIteration
        if self._begun is None:
            self._begun = self._ended = self._clock()
        try:
            if self._cancellation is not None and self._cancellation.is_cancelled:
                raise OperationCancelledError("the stream of frames was cancelled", "make a Cancellation for each one")
            frame = self._reader.take(self._cancellation)
            if isinstance(frame, SourceEnd):
                if frame.error is not None:
                    raise frame.error
                raise StopIteration
            return self._result(frame)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the stream and waits for its thread, which ends when the frame that it reads has come."""
        self._closed = True
        self._reader.close()

    def __enter__(self) -> FrameStream[Result]:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        reader = getattr(self, "_reader", None)
        if reader is not None:
            reader.stop()

    def _result(self, frame: ReadFrame) -> FrameResult[Result]:
        self._dropped += frame.dropped
        difference = float("inf")
        error, result, is_repeated = frame.error, None, False
        if frame.square is not None and frame.miniature is not None:
            if self._last is not None:
                difference = float(np.abs(frame.miniature - self._last[0]).mean())
            is_repeated = difference <= self._threshold
            if is_repeated:
                assert self._last is not None
                result = self._last[1]
            else:
                try:
                    result = self._work(frame.square)
                    self._last = (frame.miniature, result)
                except OperationCancelledError:
                    raise
                except MobileMultiModalError as failure:
                    error = failure
        self._delivered += 1
        self._worked_on += error is None and not is_repeated
        self._repeated += is_repeated
        self._failed += error is not None
        self._ended = self._clock()
        if error is not None and self._raises:
            raise type(error)(f"frame {frame.index}: {error.message}", error.hint) from error
        return FrameResult(
            index=frame.index,
            timestamp_seconds=frame.timestamp_seconds,
            result=result,
            is_repeated=is_repeated,
            difference=difference,
            dropped=frame.dropped,
            error=error,
        )


def _next_of(frames: Frames) -> Iterator[Any]:
    is_one_picture = isinstance(frames, (str, bytes, bytearray, memoryview, Image.Image))
    if is_one_picture or (isinstance(frames, np.ndarray) and frames.ndim != 4):
        raise InvalidInputError(
            f"frames is one value of type {type(frames).__name__}, expected several frames",
            "pass an iterable of frames, or a function that gives the next one",
        )
    if isinstance(frames, Iterable):
        return iter(frames)
    if callable(frames):
        return _called(frames)
    raise InvalidInputError(
        f"frames has type {type(frames).__name__}, expected an iterable or a function",
        "pass an iterable of frames, or a function that gives the next one and None at the end",
    )


def _called(source: Callable[[], ImageSource | None]) -> Iterator[ImageSource]:
    while (frame := source()) is not None:
        yield frame
