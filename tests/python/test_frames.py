"""Checks streams of frames: order, skipping, dropping, errors, ends; then on the real core."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobile_multimodal import (
    Cancellation,
    DeadlineExceededError,
    FrameSourceError,
    FrameStream,
    InvalidImageError,
    InvalidInputError,
    MobileMultiModalLLM,
    OperationCancelledError,
    load_image,
)
from mobile_multimodal.tasks.frames import CHANGE_THRESHOLD, miniature

SIDE = 64


def plain(level: int) -> np.ndarray[Any, Any]:
    """A square of one grey level."""
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def scale(frame: Any) -> Any:
    if isinstance(frame, str):
        raise InvalidImageError(f"{frame} is no picture", "send one")
    return frame


def mean(square: Any) -> float:
    return float(square.mean())


def stream(frames: Any, work: Callable[[Any], Any] = mean, **options: Any) -> FrameStream[Any]:
    chosen: dict[str, Any] = {"live": False, "change_threshold": CHANGE_THRESHOLD, "on_error": "raise"}
    return FrameStream(frames, scale, work, cancellation=options.pop("cancellation", None), **(chosen | options))


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "mobile-mm-frames":
            thread.join(timeout=10)
            assert not thread.is_alive()


def test_frames_come_in_order_and_all_of_them() -> None:
    with stream(plain(level) for level in range(0, 250, 10)) as frames:
        results = list(frames)
    assert [frame.index for frame in results] == list(range(25))
    assert [frame.result for frame in results] == list(range(0, 250, 10))
    assert all(not frame.is_repeated and frame.dropped == 0 and frame.error is None for frame in results)
    assert results[0].difference == float("inf")
    assert results[1].difference == pytest.approx(10)
    stamps = [frame.timestamp_seconds for frame in results]
    assert stamps == sorted(stamps)
    done = frames.statistics
    assert (done.delivered, done.worked_on, done.repeated, done.dropped, done.failed) == (25, 25, 0, 0, 0)
    assert done.frames_per_second > 0
    assert next(frames, None) is None


def test_unchanged_frames_repeat_the_result_without_work() -> None:
    worked: list[float] = []

    def work(square: Any) -> list[float]:
        worked.append(mean(square))
        return [mean(square)]

    levels = [100, 101, 102, 103, 102, 100, 100]
    with stream([plain(level) for level in levels], work, change_threshold=2.0) as frames:
        results = list(frames)
    # 103 is 3 from the last frame that was worked on, though 1 from the one before it: a slow change is seen.
    assert worked == [100.0, 103.0, 100.0]
    assert [frame.is_repeated for frame in results] == [False, True, True, False, True, False, True]
    assert results[1].result is results[0].result
    assert frames.statistics.repeated == 4
    with stream([plain(5)] * 4, work, change_threshold=-1) as frames:
        assert not any(frame.is_repeated for frame in frames)


def test_a_live_source_drops_what_comes_too_late() -> None:
    """While frame 0 is worked on, 1 to 5 come; the place holds one, so 5 is next and 4 were dropped."""
    begun, all_read = threading.Event(), threading.Event()

    def source() -> Iterator[Any]:
        yield plain(0)
        begun.wait(10)
        for level in (10, 20, 30, 40, 50):
            yield plain(level)
        all_read.set()

    def work(square: Any) -> float:
        begun.set()
        all_read.wait(10)
        return mean(square)

    with stream(source(), work, live=True) as frames:
        results = list(frames)
    assert [(frame.index, frame.result, frame.dropped) for frame in results] == [(0, 0.0, 0), (5, 50.0, 4)]
    assert frames.statistics.dropped == 4


def test_a_recorded_source_waits_and_is_read_ahead_by_one() -> None:
    asked: list[int] = []

    def source() -> Iterator[Any]:
        for number in range(10):
            asked.append(number)
            yield plain(20 * number)

    with stream(source()) as frames:
        next(frames)
        time.sleep(0.05)  # whatever it does in this time, it is no more than this
        assert len(asked) <= 3  # one taken, one in the place, one in hand
    assert len(asked) <= 4


def test_a_function_is_asked_until_it_gives_none() -> None:
    levels = iter([plain(0), plain(50), None, plain(100)])
    with stream(lambda: next(levels)) as frames:
        assert [frame.result for frame in frames] == [0.0, 50.0]


def test_a_source_that_fails_says_at_which_frame() -> None:
    def source() -> Iterator[Any]:
        yield plain(0)
        yield plain(50)
        raise RuntimeError("the camera was unplugged")

    frames = stream(source())
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(FrameSourceError, match=r"failed at frame 2: RuntimeError: the camera was unplugged") as caught:
        next(frames)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert next(frames, None) is None


def test_a_bad_frame_ends_the_stream_or_is_returned() -> None:
    sources = [plain(0), "words", plain(50)]
    frames = stream(sources)
    next(frames)
    with pytest.raises(InvalidImageError, match="frame 1: words is no picture"):
        next(frames)
    assert next(frames, None) is None
    with stream(sources, on_error="return") as frames:
        results = list(frames)
    assert [type(frame.error).__name__ for frame in results] == ["NoneType", "InvalidImageError", "NoneType"]
    assert results[1].result is None
    assert results[2].result == 50.0
    assert frames.statistics.failed == 1


def test_a_frame_whose_work_fails_is_tried_again_when_it_comes_again() -> None:
    failures = [DeadlineExceededError("late", "allow more time")]

    def work(square: Any) -> float:
        if failures:
            raise failures.pop()
        return mean(square)

    with stream([plain(9), plain(9)], work, on_error="return") as frames:
        first, second = list(frames)
    assert isinstance(first.error, DeadlineExceededError)
    assert (second.result, second.is_repeated) == (9.0, False)


def test_closing_ends_the_thread_and_the_generator() -> None:
    ended: list[bool] = []

    def source() -> Iterator[Any]:
        try:
            while True:
                yield plain(0)
        finally:
            ended.append(True)

    frames = stream(source())
    next(frames)
    frames.close()
    frames.close()
    assert ended == [True]
    assert next(frames, None) is None
    with pytest.raises(ZeroDivisionError), stream(source()) as frames:
        _ = next(frames).index / 0
    assert ended == [True, True]
    del frames
    dropped = stream(source())
    next(dropped)
    del dropped  # never closed: the thread ends all the same (the fixture waits for it)


@pytest.mark.parametrize("live", [False, True])
def test_a_stream_that_was_left_open_does_not_keep_the_interpreter(live: bool) -> None:
    program = (
        "import numpy as np\n"
        "from mobile_multimodal.tasks.frames import FrameStream\n"
        "def source():\n"
        "    while True:\n"
        "        yield np.zeros((64, 64, 3), np.uint8)\n"
        "stream = FrameStream(source(), lambda frame: frame, lambda square: 0.0, "
        f"live={live}, change_threshold=-1, on_error='raise', cancellation=None)\n"
        "print(next(stream).index)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip().isdigit()
    assert run.stderr == ""


def test_an_error_in_the_end_of_a_generator_is_told() -> None:
    def source() -> Iterator[Any]:
        try:
            yield plain(0)
        finally:
            raise OSError("the file was gone")

    frames = stream(source())
    next(frames)
    with pytest.raises(FrameSourceError, match="the file was gone"):
        next(frames)


def test_a_cancellation_ends_a_stream_that_waits_for_its_source() -> None:
    held = threading.Event()

    def source() -> Iterator[Any]:
        yield plain(0)
        held.wait(10)
        yield plain(50)

    cancellation = Cancellation()
    frames = stream(source(), cancellation=cancellation)
    next(frames)
    threading.Timer(0.05, lambda: (cancellation.cancel(), held.set())).start()
    with pytest.raises(OperationCancelledError):
        list(frames)


@pytest.mark.parametrize("frames", ["a.jpg", b"bytes", plain(0), 5, None])
def test_one_picture_is_no_stream(frames: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"frames (is one value|has type)"):
        stream(frames)


@pytest.mark.parametrize("options", [{"change_threshold": -2}, {"change_threshold": "1"}, {"on_error": "skip"}])
def test_settings_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="setting"):
        stream([plain(0)], **options)


def test_a_miniature_is_the_mean_of_its_parts() -> None:
    square = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    small = miniature(square)
    expected = square.astype(np.float64).mean(axis=2).reshape(32, 7, 32, 7).mean(axis=(1, 3))
    assert small.shape == (32, 32)
    # A box over whole pixels where the core's filter is a triangle: alike for noise to a few levels.
    assert abs(float(small.mean()) - float(expected.mean())) < 1
    assert np.abs(small - expected).mean() < 8


def test_what_a_camera_adds_is_no_change_and_another_picture_is(pictures: Path) -> None:
    from mobile_multimodal import native

    cat, boats = (native.resize(load_image(pictures / name), 224, 224) for name in ("cat.jpg", "boats.jpg"))
    noise = np.random.default_rng(1).normal(0, 8, cat.shape)
    noisy = np.clip(cat + noise, 0, 255).astype(np.uint8)
    assert np.abs(miniature(noisy) - miniature(cat)).mean() < CHANGE_THRESHOLD
    assert np.abs(miniature(boats) - miniature(cat)).mean() > 5 * CHANGE_THRESHOLD


def test_streams_of_the_real_core(shipped_model: MobileMultiModalLLM, pictures: Path) -> None:
    names = ["cat.jpg", "cat.jpg", "boats.jpg", "boats.jpg", "cat.jpg"]
    sources: list[Any] = [pictures / name for name in names]
    sources[1] = load_image(sources[1])  # an array and a file of the same picture
    sources[3] = sources[3].read_bytes()
    with shipped_model.embed_stream(sources) as frames:
        vectors = list(frames)
    assert [frame.is_repeated for frame in vectors] == [False, True, False, True, False]
    for frame, name in zip(vectors, names, strict=True):
        assert frame.result is not None
        assert np.array_equal(frame.result, shipped_model.embed_image(pictures / name))
    with shipped_model.caption_stream(iter(sources), num_beams=1) as captions:
        texts = [str(frame.result) for frame in captions]
    assert texts == [str(shipped_model.generate_caption(pictures / name, num_beams=1)) for name in names]


def test_a_stream_refuses_wrong_settings_before_it_reads(shipped_model: MobileMultiModalLLM) -> None:
    def source() -> Iterator[Any]:
        raise AssertionError("was read")
        yield

    with pytest.raises(InvalidInputError, match="setting num_beams is 0"):
        shipped_model.caption_stream(source(), num_beams=0)


def test_frames_of_the_real_core_that_are_no_pictures(shipped_model: MobileMultiModalLLM, pictures: Path) -> None:
    sources = [pictures / "cat.jpg", np.zeros((4, 4, 7), np.uint8), pictures / "boats.jpg"]
    with shipped_model.embed_stream(sources, on_error="return") as frames:
        errors = [type(frame.error).__name__ for frame in frames]
    assert errors == ["NoneType", "InvalidImageError", "NoneType"]
