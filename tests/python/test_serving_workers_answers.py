"""Real worker processes answer as the model in this process does, in batches and pieces, within their bounds."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from small_ocr_model import write_ocr_model
from worker_pools import BOATS, CAT, PAGE, Recorder, caption_job, pids_of, pool_of, run, soon, until

from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.errors import (
    DrainingError,
    InvalidImageError,
    InvalidInputError,
    MobileMultiModalError,
    ModelFormatError,
    ModelNotFoundError,
    QueueFullError,
    UnsupportedError,
)
from mobile_multimodal.serving.workers.file_digest import sha256_of_file
from mobile_multimodal.serving.workers.job import Job, JobResult
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.worker_pool import WorkerPool

pytestmark = pytest.mark.usefixtures("shipped_model")


def _without_timings(value: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in value.items() if name != "timings"}


def test_every_task_answers_as_the_model_does(shipped_model: MobileMultiModalLLM) -> None:
    async def main() -> None:
        async with pool_of(workers=2) as pool:

            async def value(task: Any, image: bytes | None = CAT, **arguments: Any) -> dict[str, Any]:
                result = await pool.run(Job(task=task, image=image, arguments=arguments), deadline=soon())
                assert result.worker in (0, 1)
                assert result.batch_size == 1
                assert result.queue_seconds >= 0
                assert result.inference_seconds > 0
                return _without_timings(result.value)

            for _ in range(2):  # the second round finds the picture and its features in the worker
                assert await value("caption") == _without_timings(shipped_model.generate_caption(CAT).to_dict())
                drawn = {"temperature": 1.0, "seed": 3, "max_new_tokens": 5}
                assert await value("caption", **drawn) == _without_timings(
                    shipped_model.generate_caption(CAT, **drawn).to_dict()
                )
                question = {"question": "Is there a cat?", "top_k": 3}
                assert await value("ask", **question) == _without_timings(
                    shipped_model.answer_question(CAT, **question).to_dict()
                )
                options = ["a cat", "a dog"]
                chosen = await value("choose", question="What is it?", options=options)
                assert chosen["probabilities"] == shipped_model.choose(CAT, "What is it?", options)
                assert (
                    chosen["confidence"]
                    == chosen["probabilities"][chosen["text"]]
                    == max(chosen["probabilities"].values())
                )
                assert (await value("embed_image"))["embedding"] == shipped_model.embed_image(CAT).tolist()
                assert (await value("embed_text", None, text="a cat"))["embedding"] == (
                    shipped_model.embed_text("a cat").tolist()
                )
            page = await value("ocr", PAGE, max_side=640)
            confidence = page.pop("confidence")
            assert page == _without_timings(shipped_model.extract_text(PAGE, max_side=640).to_dict())
            assert confidence == pytest.approx(sum(line["confidence"] for line in page["lines"]) / len(page["lines"]))
            assert (await value("ocr", CAT, min_confidence=1.0))["confidence"] is None

    run(main())


def test_a_second_question_on_a_picture_goes_to_the_worker_that_knows_it() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder, workers=2) as pool:
            first = await pool.run(Job(task="embed_image", image=CAT), deadline=soon())
            other = await pool.run(Job(task="embed_image", image=BOATS), deadline=soon())
            assert other.worker != first.worker
            for image, worker in [(CAT, first.worker), (BOATS, other.worker), (CAT, first.worker)]:
                result = await pool.run(Job(task="ask", image=image, arguments={"question": "who?"}), deadline=soon())
                assert result.worker == worker
            await until(lambda: recorder.count("feature_cache") == 5)
        changes = [event[1:] for event in recorder.events if event[0] == "feature_cache"]
        assert changes == [(0, 1), (0, 1), (1, 0), (1, 0), (1, 0)]

    run(main())


def test_errors_cross_the_border_unchanged(shipped_model: MobileMultiModalLLM) -> None:
    pictures = [b"no picture", b"", CAT[:2000], b"\x89PNG\r\n\x1a\n" + PAGE[8:200]]

    async def main() -> None:
        async with pool_of(max_batch=8) as pool:
            jobs = [caption_job(picture) for picture in pictures] + [caption_job()]
            *failures, caption = await asyncio.gather(
                *(pool.run(job, deadline=soon()) for job in jobs), return_exceptions=True
            )
            assert isinstance(caption, JobResult), "one damaged picture does not spoil the batch of the others"
            for picture, failure in zip(pictures, failures, strict=True):
                with pytest.raises(MobileMultiModalError) as expected:
                    shipped_model.generate_caption(picture)
                assert isinstance(failure, InvalidImageError)
                assert type(failure) is type(expected.value)
                assert failure.args == expected.value.args

    run(main())


def test_batches_form_under_load_and_never_pass_their_bound() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder, max_batch=3, batch_wait_milliseconds=0) as pool:
            (pid,) = pids_of(pool)
            os.kill(pid, signal.SIGSTOP)
            jobs = [asyncio.create_task(pool.run(caption_job(num_beams=1), deadline=soon())) for _ in range(8)]
            await until(lambda: pool.status().queue_length == 7)
            os.kill(pid, signal.SIGCONT)
            results = await asyncio.gather(*jobs)
        assert [result.batch_size for result in results] == [1, 3, 3, 3, 3, 3, 3, 1]
        assert len({result.value["text"] for result in results}) == 1
        assert max(event[2] for event in recorder.events if event[0] == "started") == 3

    run(main())


def test_a_caption_comes_in_pieces_and_then_whole() -> None:
    async def main() -> None:
        async with pool_of() as pool:
            pieces = [piece async for piece in pool.stream(caption_job(), deadline=soon())]
            result = pieces.pop()
            assert isinstance(result, JobResult)
            assert len(pieces) >= len(result.value["tokens"]) > 3  # the full stop is a piece too
            texts = [piece["text"] for piece in pieces if isinstance(piece, dict)]
            assert "".join(texts) == result.value["text"]
            whole = await pool.run(caption_job(num_beams=1), deadline=soon())
            assert whole.value["text"] == result.value["text"]
            with pytest.raises(InvalidInputError, match="num_beams is 3 in a stream"):
                await anext(pool.stream(caption_job(num_beams=3), deadline=soon()))
            job = Job(task="ask", image=CAT, arguments={"question": "who?"})
            with pytest.raises(InvalidInputError, match="task is 'ask' in a stream"):
                await anext(pool.stream(job, deadline=soon()))
            with pytest.raises(InvalidImageError):
                await anext(pool.stream(caption_job(b"no picture"), deadline=soon()))

    run(main())


def test_closing_a_stream_ends_the_job() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder) as pool:
            (pid,) = pids_of(pool)
            for is_begun in (True, False):
                stream = cast("AsyncGenerator[Any, None]", pool.stream(caption_job(), deadline=soon()))
                if is_begun:
                    assert isinstance(await anext(stream), dict)
                    await stream.aclose()
                else:  # nothing came yet
                    os.kill(pid, signal.SIGSTOP)
                    first = asyncio.ensure_future(anext(stream))
                    await until(lambda: pool.status().running == 1)
                    finished = recorder.count("finished")
                    first.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await first
                    os.kill(pid, signal.SIGCONT)
                await until(lambda: pool.status().workers[0].state == "ready")
                assert pool.status().running == 0
            assert recorder.count("finished") == finished
            await pool.run(caption_job(), deadline=soon())

    run(main())


def test_a_job_that_would_wait_too_long_is_refused_at_once() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder, max_batch=1, max_wait_seconds=0.001) as pool:
            await pool.run(caption_job(), deadline=soon())  # now it knows what a caption takes: more than 1 ms
            (pid,) = pids_of(pool)
            os.kill(pid, signal.SIGSTOP)
            jobs = [asyncio.create_task(pool.run(caption_job(), deadline=soon()))]
            await until(lambda: pool.status().running == 1)
            while pool.status().queue_length == 0:  # one is let in when what runs should have ended
                task = asyncio.create_task(pool.run(caption_job(), deadline=soon()))
                await asyncio.wait([task], timeout=0.02)
                if not task.done():
                    jobs.append(task)
                else:
                    assert isinstance(task.exception(), QueueFullError)
            with pytest.raises(QueueFullError, match=r"would wait about .* s for a worker, expected at most 0.001 s"):
                await pool.run(caption_job(), deadline=soon())
            os.kill(pid, signal.SIGCONT)
            assert len({result.value["text"] for result in await asyncio.gather(*jobs)}) == 1

    run(main())


def test_as_many_jobs_wait_as_the_queue_lets_wait() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder, queue_length=2, max_batch=1) as pool:
            (pid,) = pids_of(pool)
            os.kill(pid, signal.SIGSTOP)
            jobs = [asyncio.create_task(pool.run(caption_job(), deadline=soon())) for _ in range(3)]
            await until(lambda: pool.status().queue_length == 2)
            with pytest.raises(
                QueueFullError, match=r"2 jobs with \d+ bytes wait already, expected at most 2 with"
            ) as caught:
                await pool.run(caption_job(), deadline=soon())
            assert 0.1 <= caught.value.retry_after_seconds <= 60
            assert pool.status().is_ready
            os.kill(pid, signal.SIGCONT)
            assert len({result.value["text"] for result in await asyncio.gather(*jobs)}) == 1
        assert recorder.count("failed") == 0
        lengths = [event[1] for event in recorder.events if event[0] == "queue"]
        assert max(lengths) == 2
        assert lengths[-1] == 0

    run(main())


def test_pages_leave_a_worker_free() -> None:
    async def main() -> None:
        async with pool_of(workers=2) as pool:
            for pid in pids_of(pool):
                os.kill(pid, signal.SIGSTOP)
            pages = [asyncio.create_task(pool.run(Job(task="ocr", image=PAGE), deadline=soon())) for _ in range(2)]
            await until(lambda: pool.status().running == 1)
            assert [worker.task for worker in pool.status().workers if worker.state == "busy"] == ["ocr"]
            assert pool.status().queue_length == 1
            text = asyncio.create_task(pool.run(Job(task="embed_text", arguments={"text": "a cat"}), deadline=soon()))
            await until(lambda: pool.status().running == 2)
            assert {worker.task for worker in pool.status().workers} == {"ocr", "embed_text"}
            for pid in pids_of(pool):
                os.kill(pid, signal.SIGCONT)
            first, second, _ = await asyncio.gather(*pages, text)
            assert first.value["text"] == second.value["text"]

    run(main())


def test_status_says_what_is_there() -> None:
    async def main() -> None:
        pool = WorkerPool(PoolSettings(workers=2))
        assert not pool.status().is_ready
        with pytest.raises(MobileMultiModalError, match="no worker has opened the model yet"):
            await pool.run(caption_job(), deadline=soon())
        await pool.start()
        try:
            with pytest.raises(InvalidInputError, match="started before"):
                await pool.start()
            await pool.run(caption_job(), deadline=soon())
            status = pool.status()
            assert status.is_ready
            assert not status.is_degraded
            assert (status.queue_length, status.running) == (0, 0)
            assert sum(worker.jobs_done for worker in status.workers) <= 1
            assert all(worker.resident_bytes > 1 << 20 for worker in status.workers)
            assert len({worker.pid for worker in status.workers}) == 2
            assert status.model is not None
            assert status.model.name == "mobile-mm-llm-int2"
            assert status.model.sha256 == sha256_of_file(Path(status.model.path))
            assert "encode_image" in status.programs
            assert status.to_dict()["workers"][0]["last_error"] == ""
        finally:
            await pool.stop(drain_seconds=10)
        assert not pool.status().is_ready
        with pytest.raises(DrainingError):
            await pool.run(caption_job(), deadline=soon())

    run(main())


def test_a_bad_model_file_is_told_by_start(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(100))

    async def main() -> None:
        for model, error in [(str(file), ModelFormatError), (str(tmp_path / "none.gguf"), ModelNotFoundError)]:
            pool = WorkerPool(PoolSettings(workers=2, model=model))
            with pytest.raises(error) as caught:
                await pool.start()
            assert caught.value.hint
            assert {worker.state for worker in pool.status().workers} == {"dead"}
            assert not pids_of(pool)

    run(main())


def test_what_a_file_cannot_do_is_said_as_the_model_says_it(tmp_path: Path) -> None:
    path = str(write_ocr_model(tmp_path / "reader.gguf"))
    reader = MobileMultiModalLLM.from_pretrained(path)
    calls: list[tuple[Job, Callable[[], Any]]] = [
        (caption_job(), lambda: reader.generate_caption(CAT)),
        (Job(task="embed_image", image=CAT), lambda: reader.embed_image(CAT)),
        (Job(task="embed_text", arguments={"text": "a cat"}), lambda: reader.embed_text("a cat")),
        (Job(task="ask", image=CAT, arguments={"question": "who?"}), lambda: reader.answer_question(CAT, "who?")),
    ]

    async def main() -> None:
        async with pool_of(model=path) as pool:
            assert pool.status().programs == ("detect_text", "recognize_text")
            for job, call in calls:
                with pytest.raises(UnsupportedError) as expected:
                    call()
                with pytest.raises(UnsupportedError) as caught:
                    await pool.run(job, deadline=soon())
                assert caught.value.message == expected.value.message
            result = await pool.run(Job(task="ocr", image=CAT), deadline=soon())
            assert result.value["lines"] == reader.extract_text(CAT).to_dict()["lines"]

    run(main())


def test_nothing_is_left_behind() -> None:
    def descriptors() -> set[str]:
        return {entry.name for entry in Path("/proc/self/fd").iterdir()}

    async def main() -> None:
        async with pool_of():
            pass  # the fork server and its descriptors stay for the next pool
        before = descriptors()
        for _ in range(2):
            async with pool_of(workers=2) as pool:
                await pool.run(caption_job(), deadline=soon())
        assert descriptors() == before

    run(main())
