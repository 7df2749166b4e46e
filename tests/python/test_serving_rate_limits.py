"""Callers are held to their limits, alone or through a real Redis, and a Redis in trouble fails no request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("limits", reason="needs the extra serve")

from pydantic import ValidationError
from redis.asyncio import Redis
from redis_server import RedisServer, needs_redis

from mobile_multimodal.errors import RateLimitedError
from mobile_multimodal.serving.access import window_counts
from mobile_multimodal.serving.access.authentication import Caller
from mobile_multimodal.serving.access.rate_limits import RateLimiter, RateLimitSettings
from mobile_multimodal.serving.access.window_counts import MemoryWindowCounts
from mobile_multimodal.serving.cache.redis_guard import RedisDownError, RedisGuard, RedisSettings, RedisValueError

ADA = Caller(name="ada", kind="api_key")
BOB = Caller(name="bob", kind="token", roles=("partner",))
ANONYMOUS = Caller(name="192.0.2.7", kind="anonymous")


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def settings_of(server: RedisServer, **changes: Any) -> RedisSettings:
    # A time-out that no working Redis on a busy machine reaches; tests of slowness choose a short one.
    return RedisSettings(**{"url": server.url, "timeout_seconds": 5.0, "retry_seconds": 0.02, **changes})


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what happens in the background; 30 s is not a time limit of the code but of the test."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class FixedClock:
    """The wall clock of the counters, standing where the test puts it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000_020.0  # divides by 60: a window of a minute begins right here
        monkeypatch.setattr(window_counts, "time", SimpleNamespace(time=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FixedClock:
    return FixedClock(monkeypatch)


# --- in this process --------------------------------------------------------------------------------------------------


def test_no_limit_is_the_default() -> None:
    limiter = RateLimiter(RateLimitSettings())
    for caller in (ADA, ANONYMOUS):
        decision = run(limiter.check(caller))
        assert decision.is_allowed
        assert not decision.header_fields
    assert limiter.redis_status() is None


def test_as_many_as_allowed_pass_and_the_next_is_told_when(clock: FixedClock) -> None:
    async def scenario() -> None:
        limiter = RateLimiter(RateLimitSettings(known=("3/minute",)))
        for remaining in (2, 1, 0):
            decision = await limiter.check(ADA)
            decision.raise_if_refused()
            assert decision.header_fields["RateLimit-Policy"] == '"per_minute";q=3;w=60'
            assert decision.header_fields["RateLimit"] == f'"per_minute";r={remaining};t=60'
            assert "Retry-After" not in decision.header_fields
        decision = await limiter.check(ADA)
        assert decision.header_fields["RateLimit"] == '"per_minute";r=0;t=60'
        assert decision.header_fields["Retry-After"] == "61"
        with pytest.raises(RateLimitedError) as caught:
            decision.raise_if_refused()
        assert caught.value.retry_after_seconds == decision.retry_after_seconds
        assert (await limiter.check(BOB)).is_allowed

    run(scenario())


@pytest.mark.parametrize("asked", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("offset", [0.0, 0.5, 29.9, 59.9])
@pytest.mark.parametrize("pause", [0.0, 17.3, 59.0, 61.0, 200.0])
def test_who_waits_as_long_as_told_gets_in_and_not_much_earlier(
    clock: FixedClock, asked: int, offset: float, pause: float
) -> None:
    async def scenario() -> None:
        limiter = RateLimiter(RateLimitSettings(known=(f"{asked}/minute",)))
        clock.now += offset
        for _ in range(asked):
            assert (await limiter.check(ADA)).is_allowed
            clock.now += pause / asked
        while (decision := await limiter.check(ADA)).is_allowed:
            pass
        wait = decision.retry_after_seconds
        assert 0 < wait <= 120
        clock.now += wait - 0.5
        if wait > 0.5:
            assert not (await limiter.check(ADA)).is_allowed
        clock.now += 0.5
        assert (await limiter.check(ADA)).is_allowed

    run(scenario())


def test_a_cost_counts_as_many_and_one_beyond_the_limit_never_passes(clock: FixedClock) -> None:
    async def scenario() -> None:
        limiter = RateLimiter(RateLimitSettings(known=("10/minute",)))
        assert (await limiter.check(ADA, cost=7)).is_allowed
        assert not (await limiter.check(ADA, cost=4)).is_allowed
        assert (await limiter.check(ADA, cost=3)).is_allowed
        assert not (await limiter.check(BOB, cost=11)).is_allowed

    run(scenario())


def test_each_kind_of_caller_has_its_own_limits(clock: FixedClock) -> None:
    async def scenario() -> None:
        limiter = RateLimiter(
            RateLimitSettings(known=("2/minute",), anonymous=("1/minute",), roles={"partner": ("5/10 seconds",)})
        )
        for caller, count in ((ADA, 2), (ANONYMOUS, 1), (BOB, 5)):
            for _ in range(count):
                assert (await limiter.check(caller)).is_allowed
            assert not (await limiter.check(caller)).is_allowed
        assert '"per_10_second";q=5;w=10' in (await limiter.check(BOB)).header_fields["RateLimit-Policy"]
        # Whoever names himself like another one is not counted as that one.
        assert (await limiter.check(Caller(name="ada", kind="token"))).is_allowed
        assert (await limiter.check(Caller(name="192.0.2.7", kind="api_key"))).is_allowed

    run(scenario())


def test_an_empty_tuple_frees_a_role() -> None:
    async def scenario() -> None:
        limiter = RateLimiter(RateLimitSettings(known=("1/minute",), roles={"partner": ()}))
        for _ in range(3):
            assert (await limiter.check(BOB)).is_allowed

    run(scenario())


def test_who_hammers_at_the_short_limit_does_not_use_up_the_long_one(clock: FixedClock) -> None:
    async def scenario() -> None:
        limiter = RateLimiter(RateLimitSettings(known=("4/hour", "2/second")))
        for _ in range(50):
            await limiter.check(ADA)
        clock.now += 2.5
        assert [(await limiter.check(ADA)).is_allowed for _ in range(3)] == [True, True, False]
        clock.now += 2.5
        decision = await limiter.check(ADA)
        assert not decision.is_allowed
        assert decision.retry_after_seconds > 60
        assert decision.header_fields["RateLimit-Policy"] == '"per_second";q=2;w=1, "per_hour";q=4;w=3600'

    run(scenario())


def test_a_flood_of_addresses_stays_within_its_memory(clock: FixedClock) -> None:
    async def scenario() -> None:
        counts = MemoryWindowCounts(max_callers=100)
        for number in range(1000):
            assert await counts.acquire_sliding_window_entry(f"address-{number}", 1, 60)
        assert len(counts) == 100
        assert not await counts.acquire_sliding_window_entry("address-999", 1, 60)
        assert await counts.acquire_sliding_window_entry("address-0", 1, 60)  # forgotten, the price of the bound

    run(scenario())


# --- through Redis ----------------------------------------------------------------------------------------------------


@needs_redis
def test_two_processes_count_together_through_redis(server: RedisServer) -> None:
    server.start()

    async def scenario() -> None:
        settings = RateLimitSettings(known=("4/day",), redis=settings_of(server))
        limiters = [RateLimiter(settings), RateLimiter(settings)]
        allowed = [(await limiters[number % 2].check(ADA)).is_allowed for number in range(6)]
        assert allowed == [True] * 4 + [False] * 2
        status = limiters[0].redis_status()
        assert status is not None
        assert (status.is_up, status.failures, status.use) == (True, 0, "limits")
        for limiter in limiters:
            await limiter.close()

    run(scenario())
    with server.client() as client:
        keys = [key.decode() for key in client.keys("*")]
        assert keys
        assert all(key.startswith("mobile_mm:limits:") and "ada" not in key for key in keys)
        assert all(0 < client.ttl(key) <= 2 * 86400 for key in keys)


@needs_redis
def test_redis_that_is_down_at_the_start_fails_no_request_and_is_found_later(server: RedisServer) -> None:
    async def scenario() -> None:
        limiter = RateLimiter(RateLimitSettings(known=("6/day",), redis=settings_of(server)))
        allowed = [(await limiter.check(ADA)).is_allowed for _ in range(8)]
        assert allowed == [True] * 6 + [False] * 2  # this process counts alone
        status = limiter.redis_status()
        assert status is not None
        assert not status.is_up
        assert (status.calls, status.failures, status.refused) == (3, 3, 5)
        await asyncio.to_thread(server.start)
        await until(lambda: (state := limiter.redis_status()) is not None and state.is_up)
        assert (await limiter.check(ADA)).is_allowed  # Redis knows nothing of what was counted here
        with server.client() as client:
            assert client.keys("mobile_mm:limits:*")
        await limiter.close()

    run(scenario())


@needs_redis
def test_redis_that_is_killed_and_restarted_in_between(server: RedisServer) -> None:
    server.start()

    async def scenario() -> None:
        limiter = RateLimiter(RateLimitSettings(known=("100/day",), redis=settings_of(server)))
        for _ in range(3):
            for _ in range(3):
                assert (await limiter.check(ADA)).is_allowed
            server.kill()
            for _ in range(5):
                assert (await limiter.check(ADA)).is_allowed
            status = limiter.redis_status()
            assert status is not None
            assert not status.is_up
            await asyncio.to_thread(server.start)
            await until(lambda: (state := limiter.redis_status()) is not None and state.is_up)
        await limiter.close()

    run(scenario())


@needs_redis
def test_redis_that_restarts_between_two_requests_is_used_at_once(server: RedisServer) -> None:
    server.start()

    async def scenario() -> None:
        guard = RedisGuard(settings_of(server), "cache")
        await guard.call(lambda client: client.set("x", 1))
        server.kill()
        await asyncio.to_thread(server.start)
        assert await guard.call(lambda client: client.get("x")) is None
        assert guard.is_up
        assert guard.status().failures == 0
        await guard.close()

    run(scenario())


@needs_redis
@pytest.mark.parametrize("how", ["CLIENT PAUSE", "SIGSTOP"])
def test_redis_that_is_paused_is_left_alone_and_comes_back(server: RedisServer, how: str) -> None:
    server.start()

    async def scenario() -> None:
        settings = settings_of(server, timeout_seconds=0.05)
        guard = RedisGuard(settings, "cache")
        while guard.status().calls == guard.status().failures:  # a busy machine may miss 50 ms at first
            try:
                await guard.call(lambda client: client.set("x", 1))
            except RedisDownError:
                await until(lambda: guard.is_up)
        if how == "SIGSTOP":
            server.freeze()
        else:
            with server.client() as client:
                client.execute_command("CLIENT", "PAUSE", 60_000, "ALL")
        before = guard.status()
        for _ in range(10):
            with pytest.raises(RedisDownError):
                await guard.call(lambda client: client.get("x"))
        after = guard.status()
        assert not after.is_up
        assert after.calls - before.calls <= settings.failures_to_open
        assert after.refused - before.refused >= 10 - settings.failures_to_open
        if how == "SIGSTOP":
            server.thaw()
        else:
            await asyncio.to_thread(server.kill)  # a paused Redis hears no CLIENT UNPAUSE from a new client
            await asyncio.to_thread(server.start)
        await until(lambda: guard.is_up)
        await guard.close()

    run(scenario())


@needs_redis
def test_no_request_waits_while_redis_is_known_to_be_down(server: RedisServer) -> None:
    """While the breaker is open nothing awaits: a refused call ends without the loop turning once."""
    server.start()
    server.freeze()

    async def scenario() -> None:
        guard = RedisGuard(settings_of(server, timeout_seconds=0.02, failures_to_open=1, retry_seconds=60), "cache")
        with pytest.raises(RedisDownError):
            await guard.call(lambda client: client.get("x"))
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1

        asyncio.get_running_loop().call_soon(turn)
        for _ in range(100):
            with pytest.raises(RedisDownError):
                await guard.call(lambda client: client.get("x"))
        assert turns == 0
        await guard.close()

    run(scenario())
    server.thaw()


@needs_redis
def test_what_is_logged_of_the_recovery_belongs_to_no_request(server: RedisServer) -> None:
    request: ContextVar[str] = ContextVar("request", default="none")
    seen: dict[str, str] = {}

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen[record.getMessage()] = request.get()

    async def scenario() -> None:
        guard = RedisGuard(settings_of(server, failures_to_open=1), "cache")
        request.set("the unlucky one")
        with pytest.raises(RedisDownError):
            await guard.call(lambda client: client.get("x"))
        await asyncio.to_thread(server.start)
        await until(lambda: guard.is_up)
        await guard.close()

    logger, handler = logging.getLogger("mobile_multimodal.serving.cache.redis_guard"), Watching()
    logger.addHandler(handler)
    try:
        run(scenario())
    finally:
        logger.removeHandler(handler)
    assert seen == {
        "redis for cache is left alone: ConnectionError": "the unlucky one",
        "redis for cache answers again": "none",
    }


@needs_redis
def test_several_limits_cost_one_call(server: RedisServer) -> None:
    server.start()

    async def scenario() -> None:
        settings = RateLimitSettings(known=("9/minute", "3/hour", "8/day"), redis=settings_of(server))
        limiter = RateLimiter(settings)
        allowed = [(await limiter.check(ADA)).is_allowed for _ in range(4)]
        assert allowed == [True, True, True, False]
        status = limiter.redis_status()
        assert status is not None
        assert (status.calls, status.failures) == (4, 0)
        with server.client() as client:
            assert sorted(int(client.get(key)) for key in client.keys("*")) == [3, 3, 4]  # day, hour, minute
        await limiter.close()

    run(scenario())


def test_a_name_that_is_no_text_is_counted_too() -> None:
    limiter = RateLimiter(RateLimitSettings(known=("1/day",)))
    odd = Caller(name="\ud800", kind="token")
    assert [run(limiter.check(odd)).is_allowed for _ in range(2)] == [True, False]


@needs_redis
def test_many_at_once_wait_together_not_one_after_another(server: RedisServer) -> None:
    server.start()
    server.freeze()

    async def scenario() -> None:
        guard = RedisGuard(settings_of(server, timeout_seconds=1.0, connections=2), "cache")
        results = await asyncio.gather(
            *(guard.call(lambda client: client.get("x")) for _ in range(50)), return_exceptions=True
        )
        assert all(isinstance(result, RedisDownError) for result in results)
        # One after another the breaker would have refused all but the first three.
        assert guard.status().calls == 50
        server.thaw()
        await until(lambda: guard.is_up)
        for _ in range(3):  # no place among the connections was lost
            assert await asyncio.gather(*(guard.call(lambda client: client.get("x")) for _ in range(50))) == [None] * 50
        await guard.close()

    run(scenario())


@needs_redis
def test_a_full_redis_fails_no_request_and_is_found_when_it_has_room(server: RedisServer) -> None:
    server.start("--maxmemory", "100mb", "--maxmemory-policy", "noeviction")

    async def scenario() -> None:
        limiter = RateLimiter(RateLimitSettings(known=("50/day",), redis=settings_of(server)))
        with server.client() as client:
            client.config_set("maxmemory", 1)
            for _ in range(10):
                assert (await limiter.check(ADA)).is_allowed
            status = limiter.redis_status()
            assert status is not None
            assert not status.is_up
            await asyncio.sleep(0.1)  # several probes: they write, so they do not take a full Redis for a good one
            assert not (limiter.redis_status() or status).is_up
            client.config_set("maxmemory", "100mb")
        await until(lambda: (state := limiter.redis_status()) is not None and state.is_up)
        await limiter.close()

    run(scenario())


@needs_redis
@pytest.mark.parametrize("kind", ["list", "text", "negative"])
def test_a_key_that_holds_nonsense_is_mended_and_redis_stays_in_use(server: RedisServer, kind: str) -> None:
    server.start()

    async def scenario() -> None:
        limiter = RateLimiter(RateLimitSettings(known=("3/day",), redis=settings_of(server)))
        assert (await limiter.check(ADA)).is_allowed
        with server.client() as client:
            (key,) = client.keys("mobile_mm:limits:*")
            client.delete(key)
            if kind == "list":
                client.lpush(key, "x", "y")
            else:
                client.set(key, {"text": "nonsense", "negative": -5}[kind], px=86_400_000 * 2)
            for _ in range(5):
                await limiter.check(ADA)
            assert client.type(key) == b"string"
            assert int(client.get(key)) <= 3
        status = limiter.redis_status()
        assert status is not None
        assert status.is_up
        await limiter.close()

    run(scenario())


@needs_redis
def test_a_client_that_goes_away_neither_counts_as_a_failure_nor_mixes_up_answers(server: RedisServer) -> None:
    server.start()

    async def scenario() -> None:
        guard = RedisGuard(settings_of(server, connections=4), "cache")
        for number in range(20):
            await guard.call(lambda client, number=number: client.set(f"key-{number}", number))

        async def get(number: int) -> bytes | None:
            return await guard.call(lambda client: client.get(f"key-{number}"))

        for round_number in range(20):
            tasks = [asyncio.create_task(get(number)) for number in range(20)]
            for _ in range(round_number % 5):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for number, answer in enumerate(answers):
                assert isinstance(answer, asyncio.CancelledError) or answer == str(number).encode()
        assert guard.status().failures == 0
        await guard.close()

    run(scenario())


@needs_redis
def test_clients_that_go_away_do_not_hide_that_redis_hangs(server: RedisServer) -> None:
    """What a client left behind still ends by its time-out, and counts."""
    server.start()
    server.freeze()

    async def scenario() -> None:
        guard = RedisGuard(settings_of(server, timeout_seconds=0.05, failures_to_open=2, retry_seconds=60), "cache")
        with pytest.raises(RedisDownError):
            await guard.call(lambda client: client.get("x"))
        gone = asyncio.create_task(guard.call(lambda client: client.get("x")))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await until(lambda: not guard.is_up)
        await guard.close()

    run(scenario())
    server.thaw()


@needs_redis
def test_a_wrong_password_and_a_mistake_of_ours_are_told_apart(server: RedisServer) -> None:
    server.start("--requirepass", "right")

    async def scenario() -> None:
        wrong = RedisGuard(settings_of(server, url=f"redis://:wrong@127.0.0.1:{server.port}/0"), "cache")
        for _ in range(4):
            with pytest.raises(RedisDownError) as caught:
                await wrong.call(lambda client: client.get("x"))
            assert "wrong" not in str(caught.value)
        assert not wrong.is_up
        await wrong.close()
        right = RedisGuard(settings_of(server, url=f"redis://:right@127.0.0.1:{server.port}/0"), "cache")
        await right.call(lambda client: client.lpush("list", 1))

        async def mistake(_: Redis) -> None:
            raise ZeroDivisionError

        for _ in range(10):
            with pytest.raises(RedisValueError):
                await right.call(lambda client: client.get("list"))
            with pytest.raises(ZeroDivisionError):
                await right.call(mistake)
        assert right.is_up
        await right.close()
        with pytest.raises(RedisDownError):
            await right.call(lambda client: client.get("x"))

    run(scenario())


# --- settings ---------------------------------------------------------------------------------------------------------


def test_all_problems_of_the_settings_are_listed_at_once_and_no_password_is_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        RateLimitSettings.model_validate(
            {
                "known": ["60/minute", "often"],
                "anonymous": ["0/minute"],
                "roles": {"partner": ["5/minute;6/hour"]},
                "redis": {"url": "http://:hunter2@127.0.0.1/", "timeout_seconds": 0},
                "key_prefix": "a b",
                "knwon": [],
            }
        )
    places = {".".join(str(part) for part in error["loc"]) for error in caught.value.errors()}
    assert places == {
        "known.1",
        "anonymous.0",
        "roles.partner.0",
        "redis.url",
        "redis.timeout_seconds",
        "key_prefix",
        "knwon",
    }
    assert "hunter2" not in str(caught.value)
    good = RateLimitSettings(redis=RedisSettings.model_validate({"url": "redis://:hunter2@127.0.0.1:6379/0"}))
    assert "hunter2" not in repr(good)
