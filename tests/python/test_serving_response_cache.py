"""Answers come back for the same question and model alone, in bounded memory, worked out once, whatever Redis does."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cachetools", reason="needs the extra serve")

from pydantic import ValidationError
from redis_server import RedisServer, needs_redis

from mobile_multimodal.errors import DeadlineExceededError, OperationCancelledError, QueueFullError
from mobile_multimodal.serving.cache.redis_guard import RedisSettings
from mobile_multimodal.serving.cache.response_cache import ResponseCache, ResponseCacheSettings, response_key

MODEL = "0123abcd"
KEY = response_key(model_version=MODEL, task="caption", image=b"picture")
ANSWER = {"text": "A dog runs on grass.", "confidence": 0.1 + 0.2}


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


class Worker:
    """What works out answers: counts how often, and waits until it may go on."""

    def __init__(self, answer: dict[str, Any] | BaseException | None = None) -> None:
        self.answer = ANSWER if answer is None else answer
        self.started = 0
        self.cancelled = 0
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> dict[str, Any]:
        self.started += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(self.answer, BaseException):
            raise self.answer
        return dict(self.answer)


async def settle() -> None:
    """Lets every task that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


# --- the key ----------------------------------------------------------------------------------------------------------


def test_every_part_of_a_question_makes_another_key() -> None:
    questions: list[dict[str, Any]] = [
        {},
        {"model_version": MODEL + "0"},
        {"task": "ocr"},
        {"image": b"picture "},
        {"image": b""},
        {"image": None},
        {"question": ""},
        {"question": "What is it?"},
        {"text": "What is it?"},
        {"text": ""},
        {"options": []},
        {"options": [""]},
        {"options": ["", ""]},
        {"options": ["a", "b"]},
        {"options": ["b", "a"]},
        {"options": ["ab"]},
        {"options": ["a,b"]},
        {"options": ["a", "b"], "question": "c"},
        {"options": ["a"], "question": "bc"},
        {"parameters": {"num_beams": 1}},
        {"parameters": {"num_beams": 3}},
        {"parameters": {"num_beams": "1"}},
        {"parameters": {"num_beams": None}},
        {"parameters": {"num_beams": True}},
        {"parameters": {"stop": ["a"]}},
        {"parameters": {"stop": "a"}},
        {"question": "\udcff"},
        {"question": "\udcfe"},
    ]
    base = {"model_version": MODEL, "task": "caption", "image": b"picture"}
    keys = [response_key(**{**base, **question}) for question in questions]
    assert len(set(keys)) == len(questions)
    assert keys[0] == KEY
    assert all(len(key) == 64 for key in keys)


def test_no_two_ways_to_cut_a_text_into_parts_make_one_key() -> None:
    """Length prefixes: all ways to spread four letters over four fields, some of which are absent."""
    text = "abcd"
    keys = set()
    cuts = list(itertools.combinations_with_replacement(range(len(text) + 1), 3))
    for first, second, third in cuts:
        parts = (text[:first], text[first:second], text[second:third], text[third:])
        keys.add(
            response_key(
                model_version=parts[0], task=parts[1], image=parts[2].encode(), question=parts[3], options=None
            )
        )
        keys.add(response_key(model_version=parts[0], task=parts[1], question=parts[2], text=parts[3]))
        keys.add(response_key(model_version=parts[0], task=parts[1], options=[parts[2], parts[3]]))
    assert len(keys) == 3 * len(cuts)


def test_the_order_of_parameters_makes_no_other_key() -> None:
    one = response_key(model_version=MODEL, task="caption", parameters={"a": 1, "b": {"c": 2, "d": 3}})
    assert one == response_key(model_version=MODEL, task="caption", parameters={"b": {"d": 3, "c": 2}, "a": 1})
    assert response_key(model_version=MODEL, task="x", parameters={}) == response_key(model_version=MODEL, task="x")


def test_a_parameter_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        response_key(model_version=MODEL, task="caption", parameters={"temperature": float("nan")})


# --- in memory --------------------------------------------------------------------------------------------------------


def test_an_answer_is_worked_out_once_and_nobody_can_change_it() -> None:
    async def scenario() -> None:
        cache, worker = ResponseCache(ResponseCacheSettings(), model_version=MODEL), Worker()
        first = await cache.get_or_compute(KEY, worker)
        assert (first.value, first.source, first.is_cached) == (ANSWER, "computed", False)
        first.value["text"] = "changed"
        for _ in range(3):
            again = await cache.get_or_compute(KEY, worker)
            assert (again.value, again.source, again.is_cached) == (ANSWER, "memory", True)
            again.value["text"] = "changed"
        assert worker.started == 1
        status = cache.status()
        assert (status.memory_hits, status.misses, status.entries, status.redis) == (3, 1, 1, None)
        await cache.close()

    run(scenario())


def test_memory_stays_below_its_bound_and_the_least_used_goes_first() -> None:
    async def scenario() -> None:
        limit = 1_000_000
        cache = ResponseCache(ResponseCacheSettings(memory_bytes=limit), model_version=MODEL)
        keys = [
            response_key(model_version=MODEL, task="caption", image=bytes([n % 256, n // 256])) for n in range(4000)
        ]
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number, key in enumerate(keys):
            cache.put(key, {"text": "x" * (number % 400)})
            assert await cache.get(keys[0]) is not None  # in use, so it stays
            assert cache.status().memory_bytes <= limit
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        status = cache.status()
        assert status.memory_bytes > 0.9 * limit
        assert taken <= limit, "the bound counts less than what the entries take"
        assert await cache.get(keys[-1]) is not None
        assert await cache.get(keys[1]) is None

    run(scenario())


@pytest.mark.parametrize("settings", [{"memory_bytes": 0}, {"memory_bytes": 4096}, {"max_value_bytes": 1024}])
def test_an_answer_that_does_not_fit_is_not_kept_and_not_lost(settings: dict[str, int]) -> None:
    async def scenario() -> None:
        cache = ResponseCache(ResponseCacheSettings(**settings), model_version=MODEL)
        worker = Worker({"text": "x" * 5000})
        for _ in range(2):
            assert (await cache.get_or_compute(KEY, worker)).value == worker.answer
        assert worker.started == 2
        assert cache.status().memory_bytes == 0

    run(scenario())


def test_an_answer_that_is_no_json_is_given_but_not_kept() -> None:
    async def scenario() -> None:
        cache = ResponseCache(ResponseCacheSettings(), model_version=MODEL)
        for value in ({"confidence": float("nan")}, {"text": b"bytes"}):
            assert (await cache.get_or_compute(KEY, Worker(value))).source == "computed"
            assert cache.status().entries == 0

    run(scenario())


# --- one works it out, the others wait --------------------------------------------------------------------------------


def test_concurrent_misses_are_worked_out_once() -> None:
    async def scenario() -> None:
        cache, worker = ResponseCache(ResponseCacheSettings(), model_version=MODEL), Worker()
        worker.may_end.clear()
        tasks = [asyncio.create_task(cache.get_or_compute(KEY, worker)) for _ in range(20)]
        await settle()
        assert worker.started == 1
        worker.may_end.set()
        answers = await asyncio.gather(*tasks)
        assert sorted(answer.source for answer in answers) == ["computed"] + ["shared"] * 19
        assert all(answer.value == ANSWER for answer in answers)
        assert len({id(answer.value) for answer in answers}) == 20
        status = cache.status()
        assert (status.misses, status.shared) == (1, 19)

    run(scenario())


def test_a_cancelled_leader_does_not_fail_the_followers() -> None:
    async def scenario() -> None:
        cache, worker = ResponseCache(ResponseCacheSettings(), model_version=MODEL), Worker()
        worker.may_end.clear()
        tasks = [asyncio.create_task(cache.get_or_compute(KEY, worker)) for _ in range(3)]
        await settle()
        tasks[0].cancel()
        await settle()
        assert tasks[0].cancelled()
        worker.may_end.set()
        for task in tasks[1:]:
            assert (await task).value == ANSWER
        assert (worker.started, worker.cancelled) == (1, 0)

    run(scenario())


def test_when_all_have_gone_the_work_is_cancelled_and_the_next_starts_anew() -> None:
    async def scenario() -> None:
        cache, worker = ResponseCache(ResponseCacheSettings(), model_version=MODEL), Worker()
        worker.may_end.clear()
        tasks = [asyncio.create_task(cache.get_or_compute(KEY, worker)) for _ in range(3)]
        await settle()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        fresh = Worker({"text": "fresh"})
        answer = await cache.get_or_compute(KEY, fresh, deadline=time.monotonic() + 30)  # not the old work, for ever
        assert answer.value == {"text": "fresh"}
        assert (worker.started, worker.cancelled) == (1, 1)

    run(scenario())


def test_an_error_is_everybodys_and_is_not_kept() -> None:
    async def scenario() -> None:
        cache, worker = ResponseCache(ResponseCacheSettings(), model_version=MODEL), Worker(QueueFullError("full"))
        worker.may_end.clear()
        tasks = [asyncio.create_task(cache.get_or_compute(KEY, worker)) for _ in range(5)]
        await settle()
        worker.may_end.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(answer, QueueFullError) for answer in answers)
        assert worker.started == 1
        assert (await cache.get_or_compute(KEY, Worker())).value == ANSWER

    run(scenario())


@pytest.mark.parametrize("error", [DeadlineExceededError("the leader's"), OperationCancelledError("the leader's")])
def test_a_leader_without_time_left_does_not_fail_those_who_have_some(error: Exception) -> None:
    async def scenario() -> None:
        cache, leader, follower = ResponseCache(ResponseCacheSettings(), model_version=MODEL), Worker(error), Worker()
        leader.may_end.clear()
        first = asyncio.create_task(cache.get_or_compute(KEY, leader))
        await settle()
        others = [asyncio.create_task(cache.get_or_compute(KEY, follower)) for _ in range(4)]
        await settle()
        leader.may_end.set()
        for task in others:
            assert (await task).value == ANSWER
        with pytest.raises(type(error), match="the leader's"):
            await first
        assert (leader.started, follower.started) == (1, 1)

    run(scenario())


def test_a_follower_gives_up_at_its_own_deadline_and_the_leader_goes_on() -> None:
    async def scenario() -> None:
        cache, worker = ResponseCache(ResponseCacheSettings(), model_version=MODEL), Worker()
        worker.may_end.clear()
        leader = asyncio.create_task(cache.get_or_compute(KEY, worker))
        await settle()
        with pytest.raises(DeadlineExceededError):
            await cache.get_or_compute(KEY, worker, deadline=time.monotonic() + 0.01)
        worker.may_end.set()
        assert (await leader).value == ANSWER
        assert worker.started == 1

    run(scenario())


def test_the_end_of_the_program_does_not_hang_on_followers() -> None:
    async def scenario() -> None:
        cache, worker = ResponseCache(ResponseCacheSettings(), model_version=MODEL), Worker()
        worker.may_end.clear()
        for _ in range(3):
            scenario_tasks.append(asyncio.create_task(cache.get_or_compute(KEY, worker)))
        await settle()

    scenario_tasks: list[asyncio.Task[Any]] = []
    run(scenario())  # asyncio.run cancels what is left, the work as well as those who wait
    assert all(task.cancelled() or task.exception() is not None for task in scenario_tasks)


# --- Redis ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


Open = Callable[..., ResponseCache]


@pytest.fixture
def open_cache(server: RedisServer) -> Open:
    def make(model_version: str = MODEL, timeout_seconds: float = 5.0, **changes: Any) -> ResponseCache:
        redis = RedisSettings.model_validate(
            {"url": server.url, "timeout_seconds": timeout_seconds, "retry_seconds": 0.02}
        )
        return ResponseCache(ResponseCacheSettings(redis=redis, **changes), model_version=model_version)

    return make


async def filled(cache: ResponseCache, key: str = KEY) -> None:
    await cache.get_or_compute(key, Worker())
    await cache.close()


@needs_redis
def test_another_process_finds_the_answer_in_redis(server: RedisServer, open_cache: Open) -> None:
    server.start()

    async def scenario() -> None:
        await filled(open_cache())
        cache, worker = open_cache(), Worker()
        assert (await cache.get_or_compute(KEY, worker)).source == "redis"
        again = await cache.get_or_compute(KEY, worker)
        assert (again.value, again.source) == (ANSWER, "memory")
        assert worker.started == 0
        status = cache.status()
        assert (status.redis_hits, status.memory_hits, status.misses, status.dropped) == (1, 1, 0, 0)
        assert status.redis is not None
        assert status.redis.is_up
        await cache.close()

    run(scenario())
    with server.client() as client:
        (name,) = client.keys("*")
        assert name.decode() == f"mobile_mm:response:{MODEL}:{KEY}"
        assert 0 < client.ttl(name) <= 86400


@needs_redis
def test_no_answer_crosses_from_one_model_to_another(server: RedisServer, open_cache: Open) -> None:
    """Not by the same key, not where names are alike, and not when somebody copies values from one to the other."""
    server.start()

    async def scenario() -> None:
        await filled(open_cache("model/1"))
        for other in ("model_1", "model:1", "model/2"):
            cache, worker = open_cache(other), Worker({"text": "the other model's"})
            assert (await cache.get_or_compute(KEY, worker)).value == {"text": "the other model's"}
            await cache.close()
        with server.client() as client:
            value = client.get(f"mobile_mm:response:model_1:{KEY}")
            client.set(f"mobile_mm:response:model_9:{KEY}", value)
        cache, worker = open_cache("model_9"), Worker({"text": "the ninth model's"})
        assert (await cache.get_or_compute(KEY, worker)).value == {"text": "the ninth model's"}
        assert cache.status().dropped == 1
        await cache.close()

    run(scenario())


def _envelope(**changes: Any) -> bytes:
    return json.dumps({"key": KEY, "model_version": MODEL, "value": ANSWER, **changes}).encode()


WRONG_VALUES = {
    "text": b"nonsense",
    "cut off": _envelope()[:-1],
    "another question's": _envelope(key=response_key(model_version=MODEL, task="ocr", image=b"picture")),
    "another model's": _envelope(model_version="another"),
    "no object": b"[]",
    "a list for the answer": _envelope(value=[]),
    "no answer": _envelope(value=None),
    "more than an envelope": _envelope(more=1),
    "a bare answer": json.dumps(ANSWER).encode(),
    "not a number": b'{"key":"%s","model_version":"%s","value":{"confidence":NaN}}' % (KEY.encode(), MODEL.encode()),
    "deep nesting": b"[" * 100_000,
    "no UTF-8": b"\xff\xfe\x00",
    "a pickle": b"\x80\x04\x95\x00\x00\x00",
    "too long": _envelope(value={"text": "x" * 5_000_000}),
}


@needs_redis
@pytest.mark.parametrize("wrong", WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
def test_a_wrong_value_in_redis_is_dropped_and_replaced(server: RedisServer, open_cache: Open, wrong: bytes) -> None:
    server.start()
    name = f"mobile_mm:response:{MODEL}:{KEY}"

    async def scenario() -> None:
        with server.client() as client:
            client.set(name, wrong)
        cache, worker = open_cache(), Worker()
        assert (await cache.get_or_compute(KEY, worker)).value == ANSWER
        assert (worker.started, cache.status().dropped) == (1, 1)
        assert (cache.status().redis or pytest.fail("no Redis")).is_up
        await cache.close()
        again = open_cache()
        assert (await again.get_or_compute(KEY, worker)).source == "redis"
        await again.close()

    run(scenario())


@needs_redis
def test_a_key_of_another_kind_is_dropped_and_redis_stays_in_use(server: RedisServer, open_cache: Open) -> None:
    server.start()
    name = f"mobile_mm:response:{MODEL}:{KEY}"

    async def scenario() -> None:
        with server.client() as client:
            for fill in (lambda: client.lpush(name, "x"), lambda: client.hset(name, "a", "b")):
                client.delete(name)
                fill()
                cache = open_cache(memory_bytes=0)
                assert (await cache.get_or_compute(KEY, Worker())).value == ANSWER
                assert cache.status().dropped == 1
                assert (cache.status().redis or pytest.fail("no Redis")).is_up
                await cache.close()
                assert client.type(name) == b"string"

    run(scenario())


Trouble = Callable[[RedisServer], Awaitable[None]]


async def _stopped(server: RedisServer) -> None:
    server.kill()


async def _frozen(server: RedisServer) -> None:
    server.freeze()


async def _paused(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", 60_000, "ALL")


@needs_redis
@pytest.mark.parametrize("trouble", [_stopped, _frozen, _paused])
def test_redis_in_trouble_fails_no_request_and_comes_back(
    server: RedisServer, open_cache: Open, trouble: Trouble
) -> None:
    server.start()

    async def scenario() -> None:
        cache = open_cache(timeout_seconds=0.05, memory_bytes=0)
        await until(lambda: (cache.status().redis or pytest.fail("no Redis")).is_up)
        await cache.get_or_compute(KEY, Worker())
        await trouble(server)
        worker = Worker()
        for number in range(10):
            key = response_key(model_version=MODEL, task="caption", image=bytes([number]))
            assert (await cache.get_or_compute(key, worker)).value == ANSWER
        assert worker.started == 10
        status = cache.status().redis
        assert status is not None
        assert not status.is_up
        assert status.refused > 0 or status.calls < 20
        server.kill()
        await asyncio.to_thread(server.start)
        await until(lambda: (cache.status().redis or pytest.fail("no Redis")).is_up)
        await cache.close()

    run(scenario())


@needs_redis
def test_nobody_waits_for_an_answer_to_reach_redis(server: RedisServer, open_cache: Open) -> None:
    server.start()

    async def scenario() -> None:
        cache = open_cache()
        assert await cache.get(KEY) is None
        server.freeze()
        cache.put(KEY, ANSWER)  # returns at once: it is no coroutine
        for number in range(200):
            cache.put(f"{number:064x}", ANSWER)
        assert (await cache.get_or_compute(KEY, Worker())).source == "memory"
        server.thaw()
        await cache.close()
        with server.client() as client:
            assert 1 <= len(client.keys("*")) <= 64  # the bound on what is under way

    run(scenario())


@needs_redis
def test_a_full_redis_fails_no_request(server: RedisServer, open_cache: Open) -> None:
    server.start("--maxmemory-policy", "noeviction")

    async def scenario() -> None:
        await filled(open_cache())
        cache = open_cache()
        with server.client() as client:
            client.config_set("maxmemory", 1)
            for number in range(10):
                key = response_key(model_version=MODEL, task="caption", image=bytes([number]))
                assert (await cache.get_or_compute(key, Worker())).value == ANSWER
            assert (await cache.get_or_compute(KEY, Worker())).source == "redis"  # what it has it still gives
            client.config_set("maxmemory", 0)
        await until(lambda: (cache.status().redis or pytest.fail("no Redis")).is_up)
        await cache.close()

    run(scenario())


def test_all_problems_of_the_settings_are_listed_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        ResponseCacheSettings.model_validate(
            {"memory_bytes": -1, "ttl_seconds": 0, "max_value_bytes": 1, "redis": {"url": "x"}, "size": 5}
        )
    places = {".".join(str(part) for part in error["loc"]) for error in caught.value.errors()}
    assert places == {"memory_bytes", "ttl_seconds", "max_value_bytes", "redis.url", "size"}
