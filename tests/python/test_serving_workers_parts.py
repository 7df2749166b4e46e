"""The parts of the pool that need no process: jobs, settings, errors as records, caches, queue, quarantine."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker_pools import CAT, caption_job, run

from mobile_multimodal import errors
from mobile_multimodal.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidInputError,
    MobileMultiModalError,
    OutOfMemoryError,
    UnavailableError,
)
from mobile_multimodal.serving.workers.channel import (
    ChannelClosedError,
    WorkerChannel,
    read_frame,
    write_frame,
)
from mobile_multimodal.serving.workers.error_record import error_of_record, record_of_error
from mobile_multimodal.serving.workers.expected_wait import ExpectedWait
from mobile_multimodal.serving.workers.file_digest import sha256_of_file
from mobile_multimodal.serving.workers.job import Job
from mobile_multimodal.serving.workers.job_queue import JobQueue
from mobile_multimodal.serving.workers.pending_job import PendingJob
from mobile_multimodal.serving.workers.picture_cache import PictureCache
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.quarantine import BARRED_SECONDS, MOST_PICTURES, Quarantine
from mobile_multimodal.serving.workers.throughput import Throughput
from mobile_multimodal.serving.workers.work_item import items_of_records


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "captoin", "image": b"x"}, "unknown task 'captoin'"),
        ({"task": "caption"}, "picture of type NoneType, expected bytes"),
        ({"task": "caption", "image": "cat.jpg"}, "picture of type str, expected bytes"),
        ({"task": "embed_text", "image": b"x", "arguments": {"text": "a"}}, "has a picture"),
        ({"task": "caption", "image": b"x", "arguments": {"num_beam": 1}}, "unknown setting 'num_beam'"),
        ({"task": "caption", "image": b"x", "arguments": {"num_beams": 99}}, "num_beams is 99"),
        ({"task": "caption", "image": b"x", "arguments": {"deadline_seconds": 1}}, "deadline_seconds stands among"),
        ({"task": "ocr", "image": b"x", "arguments": {"max_side": 1}}, "max_side is 1"),
        ({"task": "ask", "image": b"x"}, "argument 'question' is missing"),
        ({"task": "ask", "image": b"x", "arguments": {"question": " "}}, "question is empty"),
        ({"task": "ask", "image": b"x", "arguments": {"question": "who?", "topk": 1}}, "unknown argument 'topk'"),
        ({"task": "choose", "image": b"x", "arguments": {"question": "who?", "options": ["a"]}}, "1 entries"),
        ({"task": "embed_image", "image": b"x", "arguments": {"text": "a"}}, "unknown argument 'text'"),
        ({"task": "embed_text"}, "argument 'text' is missing"),
    ],
)
def test_a_job_is_checked_when_it_is_made(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        Job(**fields)
    assert caught.value.hint


def test_a_job_does_not_change_with_the_dictionary_it_was_made_from() -> None:
    arguments = {"num_beams": 1}
    job = Job(task="caption", image=b"x", arguments=arguments)
    arguments["num_beams"] = 99
    assert job.arguments == {"num_beams": 1}


@pytest.mark.parametrize(
    "values",
    [
        {"model": ""},
        {"workers": 0},
        {"workers": True},
        {"threads_per_worker": 0},
        {"queue_length": 0},
        {"queue_bytes": 0},
        {"max_batch": 0},
        {"batch_wait_milliseconds": -1},
        {"stuck_grace_seconds": math.inf},
        {"silent_seconds": 0},
        {"start_seconds": 0},
        {"retries": -1},
        {"feature_cache_bytes": -1},
        {"picture_cache_bytes": 1.5},
        {"worker_memory_bytes": 0},
    ],
)
def test_pool_settings_are_checked(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=f"setting {next(iter(values))} "):
        PoolSettings(**values)


def test_every_error_crosses_unchanged() -> None:
    crossed = 0
    for error_type in vars(errors).values():
        if isinstance(error_type, type) and issubclass(error_type, MobileMultiModalError):
            error = error_type("what", "next step")
            if isinstance(error, UnavailableError):
                error.retry_after_seconds = 7.5
            back = error_of_record(json.loads(json.dumps(record_of_error(error))))
            assert type(back) is error_type
            assert vars(back) == vars(error)
            crossed += 1
    assert crossed > 20


def test_errors_of_others_become_ours() -> None:
    assert isinstance(error_of_record(record_of_error(MemoryError())), OutOfMemoryError)
    defect = error_of_record(record_of_error(KeyError("no such")))
    assert isinstance(defect, InternalError)
    assert "KeyError: 'no such'" in defect.message
    assert isinstance(error_of_record({"type": "os.system", "message": "m", "hint": "h"}), InternalError)


def test_frames_carry_any_text_and_any_bytes_both_ways() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        header = {"text": "naïve \N{CAT FACE} \ud800 \n", "number": 1.5}
        parts = [bytes(range(256)) * 2000, b"", b"end"]
        write_frame(writer, header, parts)
        channel = WorkerChannel(theirs)
        received, body = await asyncio.to_thread(channel.receive)
        assert (received, bytes(body)) == (header, b"".join(parts))
        await asyncio.to_thread(channel.send, header)
        assert await read_frame(reader) == header
        theirs.sendall(b"\0\0\0\x09\0\0\0\0{")  # the sender dies in the middle of a frame
        channel.close()
        with pytest.raises(ChannelClosedError):
            await read_frame(reader)
        writer.close()
        await writer.wait_closed()

    run(main())


def test_a_closed_channel_is_seen_from_a_worker() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    channel = WorkerChannel(theirs)
    with pytest.raises(ChannelClosedError):
        channel.receive()
    with pytest.raises(ChannelClosedError):
        channel.send({"kind": "done"})
    channel.close()


@pytest.mark.parametrize("sizes", [b"\xff\xff\xff\xff\0\0\0\0", b"\0\0\0\x02\0\0\0\x01"])
def test_a_worker_cannot_make_the_front_hold_what_it_likes(sizes: bytes) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        theirs.sendall(sizes + b"{}x")
        with pytest.raises(ChannelClosedError):
            await read_frame(reader)
        theirs.close()
        writer.close()
        await writer.wait_closed()

    run(main())


def _pending(number: int, image: bytes = CAT) -> PendingJob:
    return PendingJob(
        number=number,
        job=caption_job(image),
        picture_key=f"key {number}",
        deadline=10.0,
        queued_at=1.0,
        is_stream=False,
    )


def test_items_find_their_pictures_in_the_body() -> None:
    async def main() -> None:
        pictures = [b"first", b"", b"the third"]
        jobs = [_pending(number, picture) for number, picture in enumerate(pictures)]
        records = json.loads(json.dumps([job.record() for job in jobs]))
        items = items_of_records(records, memoryview(b"".join(pictures)))
        assert [bytes(item.picture) for item in items] == pictures
        assert [item.number for item in items] == [0, 1, 2]
        assert [item.picture_key for item in items] == ["key 0", "key 1", "key 2"]
        assert len({id(item.cancellation) for item in items}) == 3

    run(main())


def test_the_queue_keeps_order_and_lets_the_returned_in_beyond_its_bound() -> None:
    async def main() -> None:
        queue = JobQueue(2, 10**6)
        jobs = [_pending(number) for number in range(5)]
        queue.add(jobs[0])
        assert queue.takes(100)
        queue.add(jobs[1])
        assert not queue.takes(100)
        queue.add_first(jobs[2:4])
        assert [job.number for job in queue] == [2, 3, 0, 1]
        queue.remove([jobs[3], jobs[4], jobs[0]])
        assert [job.number for job in queue] == [2, 1]
        assert jobs[2] in queue
        assert jobs[0] not in queue

    run(main())


def test_the_queue_bounds_the_bytes_that_wait() -> None:
    async def main() -> None:
        queue = JobQueue(10, 1000)
        assert queue.takes(50_000_000), "a single picture may be larger"
        queue.add(_pending(1, b"x" * 600))
        assert queue.bytes == 600
        assert queue.takes(400)
        assert not queue.takes(401)

    run(main())


def test_a_second_try_repeats_no_piece() -> None:
    async def main() -> None:
        pending = _pending(1)
        words = ["A", " cat", " sits"]
        pending.begin(2.0)
        for word in words[:2]:
            pending.add_piece({"text": word})
        pending.begin(3.0)  # the worker died, another one writes the sentence anew
        for word in words:
            pending.add_piece({"text": word})
        pending.fail(DeadlineExceededError("late"))
        pending.add_piece({"text": "never seen"})
        seen = []
        while (piece := await pending.pieces.get()) is not None:
            seen.append(piece["text"])
        assert seen == words
        pending.abandon()  # reads the error: asyncio would complain else, and the test would fail

    run(main())


def test_the_picture_cache_forgets_what_was_used_longest_ago() -> None:
    def pixels(value: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.full((10, 10, 3), value, dtype=np.uint8)

    cache = PictureCache(700)  # two pictures of 300 bytes
    cache.add("a", pixels(1))
    cache.add("b", pixels(2))
    assert cache.find("a") is not None
    cache.add("c", pixels(3))
    assert cache.find("b") is None
    assert cache.find("a") is not None
    assert (len(cache), cache.bytes) == (2, 600)
    cache.add("large", np.zeros((20, 20, 3), dtype=np.uint8))
    assert cache.find("large") is None
    assert len(cache) == 2


def test_two_ends_bar_a_picture_and_a_success_clears_it() -> None:
    quarantine = Quarantine()
    quarantine.blame(["a", "a", "b", ""], 100.0)  # twice in one batch is one end
    assert quarantine.losses_of("a", 100.0) == 1
    assert not quarantine.is_barred("a", 100.0)
    quarantine.clear("b")
    quarantine.blame(["a", "b"], 101.0)
    assert quarantine.is_barred("a", 101.0)
    assert not quarantine.is_barred("b", 101.0)
    assert quarantine.losses_of("", 101.0) == 0
    assert not quarantine.is_barred("a", 101.0 + BARRED_SECONDS)
    quarantine.blame([f"other {number}" for number in range(MOST_PICTURES)], 102.0)
    assert quarantine.losses_of("a", 102.0) == 0, "it must not grow without a bound"


def test_the_estimate_follows_what_was_measured() -> None:
    throughput = Throughput()
    for _ in range(200):
        throughput.add(4.0, 2)
    assert throughput.seconds_for(6, 3) == pytest.approx(4.0, rel=1e-6)
    assert throughput.seconds_for(6, 0) == pytest.approx(12.0, rel=1e-6)
    assert throughput.seconds_for(10**6, 1) == 60.0


def test_a_file_is_named_as_sha256sum_does(tmp_path: Path) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_of_file(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_expected_wait_counts_seconds_by_task_and_what_readers_leave() -> None:
    expected = ExpectedWait(workers=3)
    for _ in range(100):
        expected.add("caption", 0.4, 8)
        expected.add("ocr", 0.2, 1)
    assert expected.seconds_before("caption", [], []) == 0.0
    assert expected.seconds_before("caption", [], [("caption", 8, 0.0)] * 2) == 0.0  # the third is free
    assert expected.seconds_before("caption", [], [("caption", 8, 0.1)] * 3) == pytest.approx(3 * 0.3 / 3)
    assert expected.seconds_before("caption", ["caption"] * 6, []) == pytest.approx(6 * 0.05 / 3)
    assert expected.seconds_before("ocr", ["ocr"] * 4 + ["caption"] * 50, []) == pytest.approx(4 * 0.2 / 2)
    # Two pages hold two of three workers: captions have the third.
    running = [("ocr", 1, 0.05), ("ocr", 1, 0.05), ("caption", 8, 0.3)]
    assert expected.seconds_before("caption", ["caption"] * 4, running) == pytest.approx(4 * 0.05 + 0.1)
    assert expected.seconds_before("ocr", [], running) == pytest.approx(2 * 0.15 / 2)
    # A batch that takes longer than expected is expected to end now.
    assert expected.seconds_before("ocr", [], [("ocr", 1, 9.0)] * 2) == 0.0


def test_expected_wait_of_one_worker_is_all_that_is_before_it() -> None:
    expected = ExpectedWait(workers=1)
    expected.add("ocr", 0.2, 1)
    expected.add("ask", 0.01, 1)
    assert expected.seconds_before("ask", ["ocr", "ask"], [("ocr", 1, 0.1)]) == pytest.approx(0.31)
