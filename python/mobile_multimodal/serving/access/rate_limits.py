"""Counts what each caller asks for, here or in Redis, and tells one who asked too often when to come back."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Annotated, Final

from limits import RateLimitItem, parse, parse_many
from limits.aio.storage import RedisStorage
from pydantic import AfterValidator, Field

from mobile_multimodal.errors import RateLimitedError
from mobile_multimodal.serving.access.authentication import Caller
from mobile_multimodal.serving.access.window_counts import MemoryWindowCounts, WindowCounts
from mobile_multimodal.serving.cache.redis_guard import (
    RedisCallError,
    RedisGuard,
    RedisSettings,
    RedisStatus,
    RedisValueError,
)
from mobile_multimodal.serving.configuration.policy_settings import PolicySettings

MAX_COUNT: Final = 1_000_000_000


def _check_limit(text: str) -> str:
    try:
        (item,) = parse_many(text)
    except ValueError:
        raise ValueError("expected a count and a time, for example '60/minute', '1000/day' or '10/5 seconds'") from None
    if not 1 <= item.amount <= MAX_COUNT:
        raise ValueError(f"expected a count from 1 to {MAX_COUNT}")
    return text


Limit = Annotated[str, AfterValidator(_check_limit)]


class RateLimitSettings(PolicySettings):
    """Who may ask how often. All of a caller's limits hold at once; no limit at all is the default.

    known      of each API key or token, for example ("120/minute", "10000/day")
    anonymous  of each address without one
    roles      of each caller with that role, in place of `known`; an empty tuple is no limit. Of several roles of a
               caller the one named first here counts.
    redis      counts are shared between processes there; without, or while it is down, each process counts alone
    """

    known: tuple[Limit, ...] = ()
    anonymous: tuple[Limit, ...] = ()
    roles: Mapping[str, tuple[Limit, ...]] = Field(default_factory=dict)
    redis: RedisSettings | None = None
    key_prefix: str = Field(default="mobile_mm:limits", pattern=r"^[A-Za-z0-9_:.-]{1,64}$")


@dataclass(frozen=True, kw_only=True)
class RateLimitDecision:
    """Whether a request may go on; the header fields belong on its answer either way.

    header_fields  RateLimit-Policy and RateLimit as in draft-ietf-httpapi-ratelimit-headers-10 (structured fields: q is
                   the quota, w the window in seconds, r what remains for the next t seconds), and Retry-After on a
                   refusal; empty for a caller without limits
    """

    is_allowed: bool = True
    retry_after_seconds: float = 0.0
    header_fields: Mapping[str, str] = field(default_factory=dict)

    def raise_if_refused(self) -> None:
        """RateLimitedError, unless the request is allowed."""
        if not self.is_allowed:
            raise RateLimitedError(
                "this caller has asked too often",
                f"wait {ceil(self.retry_after_seconds)} s; the header field RateLimit-Policy names the limits",
                retry_after_seconds=self.retry_after_seconds,
            )


@dataclass(frozen=True, kw_only=True)
class _Counted:
    item: RateLimitItem
    is_allowed: bool
    remaining: int
    seconds_until_more: float
    seconds_left: float  # of the window

    @property
    def seconds_of_remaining(self) -> float:
        return self.seconds_left if self.remaining and self.is_allowed else self.seconds_until_more


class RateLimiter:
    """Sliding windows, one a caller and limit. Nothing but RateLimitDecision comes out: a Redis that is down costs the
    time-out of its guard at most, and then every process counts alone."""

    def __init__(self, settings: RateLimitSettings) -> None:
        self._known = _items(settings.known)
        self._anonymous = _items(settings.anonymous)
        self._roles = {role: _items(limits) for role, limits in settings.roles.items()}
        self._memory = MemoryWindowCounts()
        self._guard = RedisGuard(settings.redis, "limits") if settings.redis is not None else None
        self._redis: WindowCounts | None = None
        self._redis_prefix = settings.key_prefix
        if self._guard is not None and settings.redis is not None:
            self._redis = RedisStorage(
                f"async+{settings.redis.url.get_secret_value()}".replace("async+unix", "async+redis+unix", 1),
                implementation="redispy",
                key_prefix=settings.key_prefix,
                connection_pool=self._guard.client.connection_pool,  # type: ignore[arg-type] # typed too narrowly
            )

    async def check(self, caller: Caller, cost: int = 1) -> RateLimitDecision:
        """Counts `cost` for the caller and decides."""
        items = self._items_of(caller)
        if not items:
            return RateLimitDecision()
        # Hashed: names of people stay out of Redis, keys have one length, and no name can spell another one's key.
        who = f"{caller.kind}\n{caller.name}".encode("utf-8", errors="surrogatepass")
        return _decision(items, await self._count(items, hashlib.sha256(who).hexdigest()[:32], cost))

    def redis_status(self) -> RedisStatus | None:
        """The state of Redis for the metric mobile_multimodal_backend_up; None without Redis."""
        return None if self._guard is None else self._guard.status()

    async def close(self) -> None:
        """Closes the connections to Redis."""
        if self._guard is not None:
            await self._guard.close()

    def _items_of(self, caller: Caller) -> tuple[RateLimitItem, ...]:
        if caller.kind == "anonymous":
            return self._anonymous
        return next((items for role, items in self._roles.items() if role in caller.roles), self._known)

    async def _count(self, items: tuple[RateLimitItem, ...], key: str, cost: int) -> list[_Counted]:
        redis, guard = self._redis, self._guard
        if redis is not None and guard is not None:
            try:
                # One call for all limits: one time-out, however many there are.
                return await guard.call(lambda _: _count_all(redis, items, key, cost))
            except RedisValueError:
                await self._forget(guard, items, key)
            except RedisCallError:
                pass
        return await _count_all(self._memory, items, key, cost)

    async def _forget(self, guard: RedisGuard, items: tuple[RateLimitItem, ...], key: str) -> None:
        """Deletes what is no count, so that the caller is counted for all processes again."""
        current = [f"{self._redis_prefix}:{{{item.key_for(key)}}}" for item in items]
        names = [*current, *(f"{name}/-1" for name in current)]
        with contextlib.suppress(RedisCallError):
            await guard.call(lambda client: client.delete(*names))


async def _count_all(counts: WindowCounts, items: tuple[RateLimitItem, ...], key: str, cost: int) -> list[_Counted]:
    """From the shortest window to the longest, as far as allowed: who hammers at one does not use up the next."""
    counted: list[_Counted] = []
    for item in items:
        counted.append(await _count_one(counts, item, key, cost))
        if not counted[-1].is_allowed:
            break
    return counted


async def _count_one(counts: WindowCounts, item: RateLimitItem, key: str, cost: int) -> _Counted:
    seconds = item.get_expiry()
    name = item.key_for(key)
    is_allowed = await counts.acquire_sliding_window_entry(name, item.amount, seconds, cost)
    before, before_left, now, now_left = await counts.get_sliding_window(name, seconds)
    used = floor(before * before_left / seconds) + now
    return _Counted(
        item=item,
        is_allowed=is_allowed,
        remaining=max(0, item.amount - used),
        seconds_until_more=_seconds_until(
            min(cost, item.amount), item.amount, seconds, before, before_left, now, now_left
        ),
        seconds_left=max(0.0, now_left - seconds),
    )


def _seconds_until(
    cost: int, amount: int, seconds: int, before: int, before_left: float, now: int, now_left: float
) -> float:
    """When `cost` more fit, if nobody asks meanwhile.

    What counts is before * (time left of its weight) / seconds + now, rounded down, and must be at most amount - cost.
    """
    room = amount - cost + 1  # the unrounded sum must be below this
    if now < room:
        if before == 0 or before * before_left / seconds + now < room:
            return 0.0
        return max(0.0, before_left - (room - now) * seconds / before)
    # Only after this window has become the one before, and its weight has shrunk.
    return max(0.0, now_left - seconds) + max(0.0, seconds - room * seconds / now)


def _name_of(item: RateLimitItem) -> str:
    multiples = "" if item.multiples == 1 else f"{item.multiples}_"
    return f'"per_{multiples}{item.GRANULARITY.name}"'


def _items(limits: tuple[str, ...]) -> tuple[RateLimitItem, ...]:
    return tuple(sorted((parse(limit) for limit in limits), key=lambda item: item.get_expiry()))


def _decision(items: tuple[RateLimitItem, ...], counted: list[_Counted]) -> RateLimitDecision:
    fields = {
        "RateLimit-Policy": ", ".join(f"{_name_of(item)};q={item.amount};w={item.get_expiry()}" for item in items),
        "RateLimit": ", ".join(f"{_name_of(c.item)};r={c.remaining};t={ceil(c.seconds_of_remaining)}" for c in counted),
    }
    if counted[-1].is_allowed:
        return RateLimitDecision(header_fields=fields)
    # A hundredth on top: the limit opens when the sum is below the bound, not when it touches it.
    wait = counted[-1].seconds_until_more + 0.01
    fields["Retry-After"] = str(max(1, ceil(wait)))
    return RateLimitDecision(is_allowed=False, retry_after_seconds=wait, header_fields=fields)
