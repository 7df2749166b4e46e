"""Batches of captions are captions one by one; a picture that fails or is given up leaves the others alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobile_multimodal import (
    Cancellation,
    Caption,
    DeadlineExceededError,
    GenerationSettings,
    InvalidInputError,
    MobileMultiModalLLM,
    NotFoundError,
    OperationCancelledError,
    load_image,
    native,
)
from mobile_multimodal.cli.main import main


@pytest.fixture(scope="module")
def one_thread(shipped_model: MobileMultiModalLLM) -> Iterator[MobileMultiModalLLM]:
    with MobileMultiModalLLM.from_pretrained(threads=1, feature_cache_bytes=16 << 20) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def files() -> list[Path]:
    return sorted((Path(__file__).resolve().parent.parent.parent / "examples" / "pictures").glob("*.jpg"))


@pytest.mark.parametrize("options", [{}, {"num_beams": 1}, {"temperature": 1.0, "seed": 3}, {"stop": [" in", " on"]}])
def test_every_batch_size_gives_the_same_captions(
    one_thread: MobileMultiModalLLM, files: list[Path], options: dict[str, Any]
) -> None:
    expected = [one_thread.generate_caption(file, **options) for file in files]
    assert len({caption.tokens for caption in expected}) > 1
    for size in (1, 2, 3, len(files), 16):
        assert one_thread.generate_captions(files, batch_size=size, **options) == expected  # timings do not count
    pixels = [load_image(file) for file in files]
    assert one_thread.caption_batch(pixels, GenerationSettings(**options)) == expected


@pytest.mark.parametrize("size", [1, 2, 4, 16])
def test_a_batch_keeps_order_errors_and_results(one_thread: MobileMultiModalLLM, files: list[Path], size: int) -> None:
    expected = one_thread.generate_captions(files[:3], batch_size=1)
    sources = [files[0], "missing.jpg", files[1], b"junk", files[2]]
    seen: list[int] = []
    results = one_thread.generate_captions(
        sources, batch_size=size, on_error="return", on_result=lambda index, _: seen.append(index)
    )
    assert results[::2] == expected
    assert [type(result).__name__ for result in results[1::2]] == ["NotFoundError", "InvalidImageError"]
    assert seen == [0, 1, 2, 3, 4]
    seen.clear()
    with pytest.raises(NotFoundError):
        one_thread.generate_captions(sources, batch_size=size, on_result=lambda index, _: seen.append(index))
    assert seen == [0, 1]  # what came before the failure, and the failure


def test_a_big_picture_waits_small_and_reads_the_same(one_thread: MobileMultiModalLLM, files: list[Path]) -> None:
    big = np.repeat(np.repeat(load_image(files[0]), 6, axis=0), 6, axis=1)
    assert big.nbytes > 4 << 20
    assert one_thread.generate_captions([big, big]) == [one_thread.generate_caption(big)] * 2


def test_batches_are_counted_as_calls(files: list[Path]) -> None:
    with MobileMultiModalLLM.from_pretrained(threads=1) as model:
        results = model.generate_captions([*files[:3], b"junk"], on_error="return")
        metrics = model.get_performance_metrics()
    assert (metrics.calls, metrics.failures, metrics.calls_under_way) == (4, {"InvalidImageError": 1}, 0)
    assert metrics.tokens == sum(len(result.tokens) for result in results if isinstance(result, Caption))
    assert metrics.tasks["caption"].calls == 4


def test_wrong_batches_are_refused(one_thread: MobileMultiModalLLM, files: list[Path]) -> None:
    pixels = load_image(files[0])
    with pytest.raises(InvalidInputError, match="a batch of 0 pictures, expected 1 to 16"):
        one_thread.caption_batch([])
    with pytest.raises(InvalidInputError, match="a batch of 17 pictures, expected 1 to 16"):
        one_thread.caption_batch([pixels] * 17)
    with pytest.raises(InvalidInputError, match="a batch of one value of type ndarray"):
        one_thread.caption_batch(pixels)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="1 cancellations for 2 pictures, expected one a picture or none"):
        one_thread.caption_batch([pixels] * 2, cancellations=[Cancellation()])
    for size in (0, 17, 2.0, True):
        with pytest.raises(InvalidInputError, match=r"batch_size is .*, expected an integer from 1 to 16"):
            one_thread.generate_captions(files, batch_size=size)  # type: ignore[arg-type]


def test_a_picture_can_be_given_up_for_itself(one_thread: MobileMultiModalLLM, files: list[Path]) -> None:
    pixels = [load_image(file) for file in files[:3]]
    expected = one_thread.caption_batch(pixels)
    given_up = Cancellation()
    given_up.cancel()
    results = one_thread.caption_batch(pixels, cancellations=[None, given_up, Cancellation()])
    assert isinstance(results[1], OperationCancelledError)
    assert results[::2] == expected[::2]


def test_a_deadline_holds_for_the_batch(one_thread: MobileMultiModalLLM, files: list[Path]) -> None:
    pixels = [load_image(file) for file in files[:3]]
    late = one_thread.caption_batch(pixels, GenerationSettings(deadline_seconds=1e-6))
    assert [type(result) for result in late] == [DeadlineExceededError] * 3
    assert all(isinstance(result, Caption) for result in one_thread.caption_batch(pixels))
    with pytest.raises(DeadlineExceededError):
        one_thread.generate_captions(files, deadline_seconds=1e-6)


def test_a_cancelled_call_ends_and_the_next_does_not(shipped_model: MobileMultiModalLLM, files: list[Path]) -> None:
    expected = shipped_model.generate_caption(files[0])
    cancelled = Cancellation()
    cancelled.cancel()
    assert cancelled.is_cancelled
    calls = [
        lambda token: shipped_model.generate_caption(files[0], cancellation=token),
        lambda token: shipped_model.extract_text(files[0], cancellation=token),
        lambda token: shipped_model.answer_question(files[0], "what is this?", cancellation=token),
        lambda token: shipped_model.choose(files[0], "what is this?", ["cat", "dog"], cancellation=token),
        lambda token: shipped_model.embed_image(files[0], cancellation=token),
        lambda token: shipped_model.embed_text("a cat", cancellation=token),
    ]
    for call in calls:
        with pytest.raises(OperationCancelledError):
            call(cancelled)
        call(Cancellation())
        call(None)
    assert shipped_model.generate_caption(files[0]) == expected


def test_a_running_call_is_cancelled_from_another_thread(files: list[Path]) -> None:
    engine = native.Engine(str(next((Path(native.__file__).parent / "models").glob("*.gguf"))))
    session = native.Session(engine, 1)
    assert not session.cancel()  # nothing runs
    page = np.full((1600, 1600, 3), 255, np.uint8)
    page[::40] = 0  # so long a task that it is still under way when it is cancelled
    session.read_text(page, max_side=32)

    def cancel() -> None:
        while not session.cancel():
            time.sleep(0.001)

    other = threading.Thread(target=cancel)
    other.start()
    with pytest.raises(OperationCancelledError, match="the work was cancelled before it was done"):
        session.read_text(page, max_side=4096)
    other.join()
    session.read_text(page, max_side=32)  # the cancel was for the call before
    assert not session.cancel()


def test_the_command_takes_a_batch(pictures: Path, capsys: pytest.CaptureFixture[str], shipped_model: Any) -> None:
    texts = []
    for batch in ("1", "5"):
        assert main(["caption", str(pictures), "--batch", batch]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert main(["caption", str(pictures), "--batch", "17"]) == 2
    assert "batch_size is 17, expected an integer from 1 to 16" in capsys.readouterr().err
    assert main(["caption", str(pictures), "--batch", "2", "--stream"]) == 2
    assert "options --stream and --batch exclude each other" in capsys.readouterr().err
