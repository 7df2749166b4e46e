"""Workers that die, hang, grow or lose their front; deadlines, callers that leave, and the end of a pool."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from worker_pools import (
    BOATS,
    CAT,
    PAGE,
    PATIENCE_SECONDS,
    Recorder,
    caption_job,
    is_running,
    pids_of,
    pool_of,
    private_bytes,
    run,
    soon,
    until,
)

from mobile_multimodal.errors import DeadlineExceededError, DrainingError, WorkerLostError
from mobile_multimodal.serving.workers.job import Job, JobResult
from mobile_multimodal.serving.workers.pool_observer import PoolObserver
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.worker_pool import WorkerPool

pytestmark = pytest.mark.usefixtures("shipped_model")


def _slow_job() -> Job:
    """Reading that takes a second, so that what a test does in the next line comes before its end."""
    file = io.BytesIO()
    Image.open(io.BytesIO(PAGE)).convert("L").resize((2500, 2500)).save(file, "PNG")
    return Job(task="ocr", image=file.getvalue(), arguments={"max_side": 4096})


def _kill_busy_workers(pool: WorkerPool) -> None:
    for worker in pool.status().workers:
        if worker.state == "busy":
            os.kill(worker.pid, signal.SIGKILL)


async def _stopped_worker(pool: WorkerPool) -> int:
    """Stops the only worker, so that a job given to it stays under way until the test says otherwise."""
    (pid,) = pids_of(pool)
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: _process_state(pid)[0] == "T")
    return pid


def _process_state(pid: int) -> tuple[str, int]:
    """The letter of its state and its parent; X when there is none of that number."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except FileNotFoundError:
        return "X", 0
    return state, int(parent)


def test_the_job_of_a_killed_worker_is_answered_by_the_next_one() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder) as pool:
            pid = await _stopped_worker(pool)
            job = asyncio.create_task(pool.run(caption_job(), deadline=soon()))
            stream: Any = pool.stream(caption_job(BOATS), deadline=soon())
            await until(lambda: pool.status().running == 1)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not pool.status().is_ready)
            assert pool.status().is_degraded
            assert (await job).value["text"]
            pieces = [piece async for piece in stream]
            assert isinstance(pieces.pop(), JobResult)
            status = pool.status()
            assert status.is_ready
            assert not status.is_degraded
            assert status.workers[0].restarts == 1
            assert status.workers[0].pid != pid
            assert status.workers[0].last_error == "was killed by signal 9"
        assert recorder.count("restarted", "died") == 1
        assert recorder.count("failed") == 0

    run(main())


def test_another_worker_takes_over_at_once() -> None:
    async def main() -> None:
        async with pool_of(workers=2) as pool:
            first, second = sorted(pids_of(pool))
            for pid in (first, second):
                os.kill(pid, signal.SIGSTOP)
            job = asyncio.create_task(pool.run(caption_job(), deadline=soon()))
            await until(lambda: pool.status().running == 1)
            busy = next(worker.pid for worker in pool.status().workers if worker.state == "busy")
            (other,) = {first, second} - {busy}
            os.kill(busy, signal.SIGKILL)
            os.kill(other, signal.SIGCONT)
            assert (await job).value["text"]

    run(main())


def test_a_job_that_ends_every_worker_gets_two_and_no_more() -> None:
    async def main() -> None:
        recorder = Recorder()
        slow = _slow_job()
        async with pool_of(recorder) as pool:
            recorder.on_start = lambda: _kill_busy_workers(pool)
            with pytest.raises(WorkerLostError, match="while it had the job, as 1 before") as caught:
                await pool.run(slow, deadline=soon())
            assert caught.value.retry_after_seconds > 0
            assert recorder.count("started") == 2
            recorder.on_start = None
            with pytest.raises(WorkerLostError, match="no third one gets it") as caught:
                await pool.run(Job(task="embed_image", image=slow.image), deadline=soon())
            assert caught.value.retry_after_seconds == 600
            assert (await pool.run(caption_job(), deadline=soon())).value["text"]
        assert recorder.count("started") == 3
        assert recorder.count("restarted", "died") == 2
        assert recorder.count("failed", "ocr", "WorkerLostError") == 1

    run(main())


def test_no_retry_when_none_is_wanted() -> None:
    async def main() -> None:
        async with pool_of(retries=0) as pool:
            pid = await _stopped_worker(pool)
            job = asyncio.create_task(pool.run(caption_job(), deadline=soon()))
            await until(lambda: pool.status().running == 1)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(WorkerLostError):
                await job

    run(main())


def test_members_of_a_lost_batch_go_on_one_by_one() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder, batch_wait_milliseconds=500, max_batch=3) as pool:
            pid = await _stopped_worker(pool)
            jobs = [asyncio.create_task(pool.run(caption_job(image), deadline=soon())) for image in (CAT, BOATS, CAT)]
            await until(lambda: pool.status().running == 3)
            os.kill(pid, signal.SIGKILL)
            results = await asyncio.gather(*jobs)
            assert [result.batch_size for result in results] == [1, 1, 1]
            together = [
                asyncio.create_task(pool.run(caption_job(image), deadline=soon())) for image in (CAT, BOATS, CAT)
            ]
            assert [result.batch_size for result in await asyncio.gather(*together)] == [3, 3, 3], "success clears them"

    run(main())


def test_a_hanging_worker_is_replaced_and_the_caller_told_at_the_deadline() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder, stuck_grace_seconds=0.2) as pool:
            pid = await _stopped_worker(pool)
            with pytest.raises(DeadlineExceededError, match="while a worker had it"):
                await pool.run(caption_job(), deadline=time.monotonic() + 0.3)
            assert (await pool.run(caption_job(BOATS), deadline=soon())).value["text"]
            assert pids_of(pool) != {pid}
            assert not is_running(pid)
        assert recorder.count("restarted", "stuck") == 1
        assert recorder.count("failed", "caption", "DeadlineExceededError") == 1

    run(main())


def test_an_idle_worker_that_answers_nothing_is_replaced() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder, silent_seconds=0.5) as pool:
            pid = await _stopped_worker(pool)
            await until(lambda: recorder.count("restarted", "stuck") >= 1)
            await until(lambda: pool.status().is_ready)
            assert pid not in pids_of(pool)
            assert not is_running(pid)

    run(main())


def test_a_busy_worker_that_answers_nothing_does_not_count_as_ready() -> None:
    async def main() -> None:
        async with pool_of(silent_seconds=0.5) as pool:
            pid = await _stopped_worker(pool)
            job = asyncio.create_task(pool.run(caption_job(), deadline=soon()))
            await until(lambda: not pool.status().is_ready)
            os.kill(pid, signal.SIGCONT)
            await until(lambda: pool.status().is_ready)
            assert (await job).value["text"]

    run(main())


def test_a_defect_in_counting_does_not_stop_the_work(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(PoolObserver):
        def job_finished(self, task: Any, inference_seconds: float, value: Any) -> None:
            raise ZeroDivisionError("a defect")

    async def main() -> None:
        async with pool_of(Broken()) as pool:
            for _ in range(2):
                assert (await pool.run(caption_job(), deadline=soon())).value["text"]
            assert pool.status().workers[0].restarts == 0

    run(main())
    assert caplog.text.count("ZeroDivisionError: a defect") == 2


def test_a_job_past_its_deadline_never_runs() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder, max_batch=1) as pool:
            pid = await _stopped_worker(pool)
            job = asyncio.create_task(pool.run(caption_job(), deadline=soon()))
            await until(lambda: pool.status().running == 1)
            with pytest.raises(DeadlineExceededError, match="while it waited for a worker"):
                await pool.run(caption_job(), deadline=time.monotonic() + 0.1)
            with pytest.raises(DeadlineExceededError):
                await pool.run(caption_job(), deadline=time.monotonic() - 1)
            assert pool.status().queue_length == 0
            os.kill(pid, signal.SIGCONT)
            await job
        assert recorder.count("started") == 1

    run(main())


def test_the_model_stops_at_the_deadline() -> None:
    async def main() -> None:
        async with pool_of(stuck_grace_seconds=PATIENCE_SECONDS) as pool:
            pids = pids_of(pool)
            with pytest.raises(DeadlineExceededError):
                await pool.run(_slow_job(), deadline=time.monotonic() + 0.2)
            await until(lambda: pool.status().workers[0].state == "ready")
            assert pids_of(pool) == pids

    run(main())


def test_a_waiting_job_whose_caller_leaves_is_dropped() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder, max_batch=1) as pool:
            pid = await _stopped_worker(pool)
            jobs = [asyncio.create_task(pool.run(caption_job(), deadline=soon())) for _ in range(2)]
            await until(lambda: pool.status().queue_length == 1)
            jobs[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await jobs[1]
            assert pool.status().queue_length == 0
            os.kill(pid, signal.SIGCONT)
            await jobs[0]
        assert recorder.count("started") == 1
        assert recorder.count("failed") == 0

    run(main())


def test_a_running_job_whose_caller_leaves_is_called_off() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder) as pool:
            pids = pids_of(pool)
            job = asyncio.create_task(pool.run(_slow_job(), deadline=soon()))
            await until(lambda: pool.status().running == 1)
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            await until(lambda: pool.status().workers[0].state == "ready")
            assert pids_of(pool) == pids
        assert recorder.count("finished") == 0

    run(main())


def test_a_worker_that_holds_too_much_is_replaced_between_two_jobs() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with pool_of(recorder, worker_memory_bytes=1 << 20) as pool:
            seen = set()
            for _ in range(3):
                seen |= pids_of(pool)
                assert (await pool.run(caption_job(), deadline=soon())).value["text"]
            await until(lambda: recorder.count("restarted", "memory") == 3)
            await until(lambda: pool.status().is_ready)
            assert len(seen | pids_of(pool)) >= 3
        assert recorder.count("failed") == 0

    run(main())


def _noise(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_worker_of_its_own_holds_less_than_30_MB() -> None:
    settings = PoolSettings()
    features = 49 * 1280 * 4  # bytes of one picture's, float32
    square = 224 * 224 * 3
    count = max(settings.feature_cache_bytes // features, settings.picture_cache_bytes // square) + 4

    async def main() -> None:
        async with pool_of(workers=2, queue_length=1000) as pool:
            jobs = [caption_job(_noise(seed)) for seed in range(2 * count)]
            jobs += [Job(task="ocr", image=PAGE)] * 2 + [caption_job(), caption_job(BOATS)] * settings.max_batch
            jobs.append(Job(task="choose", image=CAT, arguments={"question": "who?", "options": ["a", "b"]}))
            await asyncio.gather(*(pool.run(job, deadline=soon()) for job in jobs))
            await until(lambda: pool.status().running == 0)
            for pid in pids_of(pool):
                assert private_bytes(pid) < 30_000_000

    run(main())


def test_a_stopping_pool_finishes_what_it_has() -> None:
    async def main() -> None:
        async with pool_of(workers=2, max_batch=2) as pool:
            jobs = [asyncio.create_task(pool.run(caption_job(), deadline=soon())) for _ in range(10)]
            await until(lambda: pool.status().queue_length + pool.status().running == 10)
            stopping = asyncio.create_task(pool.stop(drain_seconds=PATIENCE_SECONDS))
            await until(lambda: pool.status().is_draining)
            assert not pool.status().is_ready
            with pytest.raises(DrainingError):
                await pool.run(caption_job(), deadline=soon())
            assert len(await asyncio.gather(*jobs)) == 10
            await stopping

    run(main())


def test_a_pool_whose_time_to_stop_is_over_fails_the_rest() -> None:
    async def main() -> None:
        async with pool_of(max_batch=1, stuck_grace_seconds=0.1) as pool:
            await _stopped_worker(pool)
            jobs = [asyncio.create_task(pool.run(caption_job(), deadline=soon())) for _ in range(3)]
            await until(lambda: pool.status().running == 1)
            await pool.stop(drain_seconds=0.1)
            for job in jobs:
                with pytest.raises(DrainingError):
                    await job

    run(main())


_FRONT = """
import asyncio, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from worker_pools import CAT, caption_job, pids_of, soon
from mobile_multimodal.serving.workers.job import Job
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.pool_observer import PoolObserver
from mobile_multimodal.serving.workers.worker_pool import WorkerPool

async def main():
    pool = WorkerPool(PoolSettings(workers=2))
    await pool.start()
    print(*pids_of(pool), flush=True)
    {rest}

if __name__ == "__main__":
    asyncio.run(main())
"""


def _front(rest: str) -> subprocess.Popen[str]:
    program = _FRONT.format(tests=str(Path(__file__).parent), rest=rest)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def test_workers_end_with_a_front_that_was_killed() -> None:
    async def main() -> None:
        busy = "while True: await pool.run(caption_job(), deadline=soon())"
        with _front(busy) as front:
            assert front.stdout is not None
            pids = [int(pid) for pid in front.stdout.readline().split()]
            assert len(pids) == 2
            assert all(is_running(pid) for pid in pids)
            front.kill()
            await until(lambda: not any(is_running(pid) for pid in pids))

    run(main())


def test_a_fork_server_that_was_killed_is_started_anew() -> None:
    async def main() -> None:
        pool = WorkerPool(PoolSettings(workers=2))
        await pool.start()
        first, second = pids_of(pool)
        os.kill(_process_state(first)[1], signal.SIGKILL)
        await pool.run(caption_job(), deadline=soon())
        os.kill(first, signal.SIGKILL)
        await until(lambda: first not in pids_of(pool) and not pool.status().is_degraded)
        assert second in pids_of(pool), "the other one works on"
        await asyncio.gather(*(pool.run(caption_job(), deadline=soon()) for _ in range(4)))
        await pool.stop(drain_seconds=PATIENCE_SECONDS)
        await until(lambda: _process_state(second)[0] in "ZX")  # who reaps an orphan is not ours to say

    run(main())


def test_workers_leave_signals_to_the_front() -> None:
    async def main() -> None:
        async with pool_of(workers=2) as pool:
            pids = pids_of(pool)
            for number in (signal.SIGTERM, signal.SIGINT):
                for pid in pids:
                    os.kill(pid, number)
            await asyncio.gather(*(pool.run(caption_job(), deadline=soon()) for _ in range(8)))
            assert pids_of(pool) == pids

    run(main())


def test_a_front_that_forgets_to_stop_its_pool_ends_all_the_same() -> None:
    with _front("return") as front:
        assert front.stdout is not None
        pids = [int(pid) for pid in front.stdout.readline().split()]
        assert front.wait(PATIENCE_SECONDS) == 0
        run(until(lambda: not any(is_running(pid) for pid in pids)))
