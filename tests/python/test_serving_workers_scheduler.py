"""Who gets what next: order, batches and their bound, pages that leave a worker free, affinity to pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from worker_pools import run

from mobile_multimodal.serving.workers.job import Job
from mobile_multimodal.serving.workers.pending_job import PendingJob
from mobile_multimodal.serving.workers.scheduler import Assignment, Scheduler, WaitUntil


@dataclass
class IdleWorker:
    index: int
    idle_since: float = 0.0
    seen: dict[str, float] = field(default_factory=dict)

    def saw_picture_at(self, picture_key: str) -> float:
        return self.seen.get(picture_key, float("-inf"))


class Line:
    """Makes waiting jobs and asks a scheduler about them."""

    def __init__(self, **settings: Any) -> None:
        self.scheduler = Scheduler(**{"workers": 2, "max_batch": 3, "batch_wait_seconds": 0.5, **settings})
        self.waiting: list[PendingJob] = []

    def add(
        self, task: Any = "caption", *, at: float = 0.0, key: str = "", image: bytes = b"x", **arguments: Any
    ) -> None:
        needed = {"question": "who?"} if task == "ask" else {}
        job = Job(task=task, image=image, arguments={**needed, **arguments})
        number = len(self.waiting)
        self.waiting.append(
            PendingJob(number=number, job=job, picture_key=key, deadline=99.0, queued_at=at, is_stream=False)
        )

    def choose(self, *free: IdleWorker, readers: int = 0, now: float = 1.0) -> tuple[int, list[int]] | float | None:
        choice = self.scheduler.choose(self.waiting, free, readers, now)
        if isinstance(choice, Assignment):
            return choice.worker, [job.number for job in choice.jobs]
        return choice.time if isinstance(choice, WaitUntil) else None


def test_nothing_goes_without_a_job_or_a_free_worker() -> None:
    async def main() -> None:
        line = Line()
        assert line.choose(IdleWorker(0)) is None
        line.add()
        assert line.choose() is None

    run(main())


@pytest.mark.parametrize(("waiting", "taken"), [(1, 1), (2, 2), (3, 3), (4, 3), (50, 3)])
def test_a_batch_takes_what_is_there_and_never_more_than_its_bound(waiting: int, taken: int) -> None:
    async def main() -> None:
        line = Line()
        for _ in range(waiting):
            line.add()
        assert line.choose(IdleWorker(0)) == (0, list(range(taken)))

    run(main())


def test_a_batch_of_large_pictures_is_cut_short() -> None:
    async def main() -> None:
        line = Line(max_batch=8)
        for megabytes in (30, 1, 10, 10, 1):
            line.add(image=bytes(megabytes << 20))
        assert line.choose(IdleWorker(0)) == (0, [0])
        line.waiting = line.waiting[1:]
        assert line.choose(IdleWorker(0)) == (0, [1, 2])

    run(main())


def test_a_batch_that_is_not_full_waits_for_its_first_member_s_time() -> None:
    async def main() -> None:
        line = Line()
        line.add(at=1.0)
        line.add(at=1.4)
        assert line.choose(IdleWorker(0), now=1.4) == 1.5
        assert line.choose(IdleWorker(0), now=1.5) == (0, [0, 1])
        line.add(at=1.4)
        assert line.choose(IdleWorker(0), now=1.4) == (0, [0, 1, 2]), "a full one goes at once"

    run(main())


def test_others_pass_a_batch_that_waits() -> None:
    async def main() -> None:
        line = Line()
        line.add(at=1.0)
        line.add("ask", at=1.1)
        assert line.choose(IdleWorker(0), now=1.1) == (0, [1])

    run(main())


def test_only_captions_with_equal_settings_go_together() -> None:
    async def main() -> None:
        line = Line(max_batch=8)
        line.add(num_beams=1)
        line.add(num_beams=2)
        line.add("ask")
        line.add(num_beams=1)
        line.add()
        assert line.choose(IdleWorker(0)) == (0, [0, 3])
        line.waiting = [job for job in line.waiting if job.number not in (0, 3)]
        assert line.choose(IdleWorker(0)) == (0, [1])

    run(main())


def test_a_job_whose_worker_died_goes_alone() -> None:
    async def main() -> None:
        line = Line()
        for _ in range(3):
            line.add()
        line.waiting[0].batch_key = None
        assert line.choose(IdleWorker(0)) == (0, [0])

    run(main())


def test_free_workers_share_what_waits() -> None:
    async def main() -> None:
        line = Line(max_batch=8)
        for _ in range(5):
            line.add()
        assert line.choose(IdleWorker(0), IdleWorker(1, 0.5)) == (0, [0, 1, 2])

    run(main())


def test_pages_leave_a_worker_for_quick_tasks() -> None:
    async def main() -> None:
        line = Line(workers=3)
        line.add("ocr")
        line.add("ocr")
        line.add("ask")
        assert line.choose(IdleWorker(0), IdleWorker(1), readers=1) == (0, [0])
        assert line.choose(IdleWorker(0), readers=2) == (0, [2])
        line.waiting = line.waiting[:2]
        assert line.choose(IdleWorker(0), readers=2) is None

    run(main())


def test_a_single_worker_reads_pages_too() -> None:
    async def main() -> None:
        line = Line(workers=1)
        line.add("ocr")
        assert line.choose(IdleWorker(0), readers=0) == (0, [0])

    run(main())


def test_the_worker_that_saw_the_picture_last_is_taken() -> None:
    async def main() -> None:
        line = Line()
        line.add("ask", key="cat")
        workers = [IdleWorker(0, 3.0, {"cat": 1.0}), IdleWorker(1, 2.0, {"cat": 5.0}), IdleWorker(2, 1.0)]
        assert line.choose(*workers) == (1, [0])
        line.waiting[0].picture_key = "dog"
        assert line.choose(*workers) == (2, [0]), "else the one that has been idle longest"

    run(main())
