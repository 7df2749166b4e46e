"""Answers one query: from the cache, or by the pool, within its deadline and only while its client is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

from starlette.requests import Request

from mobile_multimodal.errors import InvalidInputError, NotFoundError
from mobile_multimodal.serving.cache.response_cache import response_key
from mobile_multimodal.serving.http.client_connection import while_connected
from mobile_multimodal.serving.pictures.picture_input import THREAD_BYTES
from mobile_multimodal.serving.services import Services
from mobile_multimodal.serving.workers.job import Job, JobResult

PublicTask = Literal["caption", "ocr", "vqa", "embed"]
_PUBLIC_TASK: Final[dict[str, PublicTask]] = {
    "caption": "caption",
    "ocr": "ocr",
    "ask": "vqa",
    "choose": "vqa",
    "embed_image": "embed",
    "embed_text": "embed",
}


@dataclass(frozen=True, kw_only=True)
class Query:
    """One job with what the request says around it. `deadline` is on the clock time.monotonic()."""

    job: Job
    deadline: float

    @property
    def task(self) -> PublicTask:
        """The task as the API calls it."""
        return _PUBLIC_TASK[self.job.task]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a query; `value` is as JobResult has it."""

    value: dict[str, Any]
    is_cached: bool = False
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    started_at: float = field(default_factory=time.perf_counter)

    def timings(self) -> dict[str, float]:
        """Milliseconds: in the queue, in the worker, and in all until now."""
        return {
            "queue_milliseconds": round(1000 * self.queue_seconds, 3),
            "inference_milliseconds": round(1000 * self.inference_seconds, 3),
            "total_milliseconds": round(1000 * (time.perf_counter() - self.started_at), 3),
        }


def check_model(services: Services, asked: str | None) -> None:
    """NotFoundError for a model that is not the one served."""
    served = services.model.name
    if asked not in (None, served, services.settings.model):
        raise NotFoundError(f"model {str(asked)[:80]!r} is not served here", f"ask for {served!r}, or leave model out")


def deadline_of(services: Services, asked: float | None) -> float:
    """When a request that is read now must be answered, on the clock time.monotonic()."""
    settings = services.settings
    if asked is not None and asked > settings.max_deadline_seconds:
        raise InvalidInputError(
            f"deadline_seconds is {asked:g}, expected at most {settings.max_deadline_seconds:g}",
            "ask for less, or leave it out",
        )
    return time.monotonic() + (settings.deadline_seconds if asked is None else asked)


async def answer(services: Services, request: Request, query: Query) -> Outcome:
    """The outcome of a query. Raises what the pool raises, and ClientGoneError when nobody waits any more."""
    return (await answer_all(services, request, [query]))[0]


async def answer_all(services: Services, request: Request, queries: Sequence[Query]) -> list[Outcome]:
    """The outcomes of several queries, in their order; the first that fails calls the others off."""
    # As many at a time as there are workers: one request must not fill the queue for all others.
    turns = asyncio.Semaphore(max(1, services.worker_count))

    async def one(query: Query) -> Outcome:
        async with turns:
            return await _outcome(services, query, request.state.started_at)

    async def every() -> list[Outcome]:
        tasks = [asyncio.ensure_future(one(query)) for query in queries]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    return await while_connected(services, request, every())


async def _outcome(services: Services, query: Query, started_at: float) -> Outcome:
    """From the cache, where the key is the picture's bytes as they came: nothing is decoded for it."""
    done: list[JobResult] = []

    async def compute() -> dict[str, Any]:
        done.append(await services.pool.run(query.job, deadline=query.deadline))
        return done[0].value

    cache = services.cache
    if cache is None:  # the pool says that the server is still starting
        value, source = await compute(), "computed"
    else:
        found = await cache.get_or_compute(await cache_key(services, query.job), compute, deadline=query.deadline)
        value, source = found.value, found.source
        services.metrics.cache_asked(source)
    is_own = source == "computed" and bool(done)
    if is_own:
        _trace(services, query, done[0])
    return Outcome(
        value=value,
        is_cached=source != "computed",
        queue_seconds=done[0].queue_seconds if is_own else 0.0,
        inference_seconds=done[0].inference_seconds if is_own else 0.0,
        started_at=started_at,
    )


def _trace(services: Services, query: Query, result: JobResult) -> None:
    services.tracing.record_job(
        task=query.job.task,
        queue_seconds=result.queue_seconds,
        inference_seconds=result.inference_seconds,
        batch_size=result.batch_size,
        worker=result.worker,
    )


async def cache_key(services: Services, job: Job) -> str:
    """The key of a job's answer: model, task, picture and all arguments."""
    arguments = dict(job.arguments)
    make = partial(
        response_key,
        model_version=services.model.sha256,
        task=job.task,
        image=job.image,
        question=arguments.pop("question", None),
        text=arguments.pop("text", None),
        options=arguments.pop("options", None),
        parameters=arguments,
    )
    is_large = job.image is not None and len(job.image) > THREAD_BYTES
    return await asyncio.to_thread(make) if is_large else make()


def response_body(services: Services, request: Request, query: Query, outcome: Outcome) -> dict[str, Any]:
    """The answer of /v1/inference and the short routes."""
    return {
        "id": request.state.request_id,
        "model": services.model.name,
        "model_version": services.model.sha256,
        "task": query.task,
        "result": result_of(outcome.value),
        "cached": outcome.is_cached,
        "timings": outcome.timings(),
    }


def result_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """A job's value as the API shows it."""
    if "embedding" in value:
        return {"embedding": value["embedding"], "dimensions": len(value["embedding"])}
    return dict(value)


async def stream(services: Services, request: Request, query: Query) -> AsyncGenerator[str | Outcome, None]:
    """The words of a caption, then the outcome; closing it calls the job off. What is kept comes in one piece."""
    cache = services.cache
    key = "" if cache is None else await cache_key(services, query.job)
    kept = None if cache is None else await cache.get(key)
    if cache is not None:
        services.metrics.cache_asked("computed" if kept is None else kept.source)
    if kept is not None:
        yield kept.value["text"]
        yield Outcome(value=kept.value, is_cached=True, started_at=request.state.started_at)
        return
    pieces = services.pool.stream(query.job, deadline=query.deadline)
    try:
        async for piece in pieces:
            if not isinstance(piece, JobResult):
                yield piece["text"]
                continue
            if cache is not None:
                cache.put(key, piece.value)
            _trace(services, query, piece)
            yield Outcome(
                value=piece.value,
                queue_seconds=piece.queue_seconds,
                inference_seconds=piece.inference_seconds,
                started_at=request.state.started_at,
            )
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]
