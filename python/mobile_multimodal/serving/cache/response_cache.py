"""Keeps answers by what was asked, in memory and perhaps in Redis, and has each question worked out once at a time."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from cachetools import LRUCache
from pydantic import Field
from redis.asyncio import Redis

from mobile_multimodal.serving.cache.redis_guard import (
    RedisCallError,
    RedisGuard,
    RedisSettings,
    RedisStatus,
    RedisValueError,
)
from mobile_multimodal.serving.cache.single_flight import SingleFlight
from mobile_multimodal.serving.configuration.policy_settings import PolicySettings

Source = Literal["memory", "redis", "shared", "computed"]

# What an entry takes beside the bytes of its answer: its key and its slots in the three tables of cachetools.
_ENTRY_BYTES: Final = 400  # measured: at most 366, right after the tables have grown (Python 3.11)
_ENVELOPE_BYTES: Final = 1024  # key, model version and the names of the fields around an answer in Redis
_MAX_WRITES: Final = 64  # answers on their way to Redis; more are not sent
_KEY_FORMAT: Final = b"mobile-mm response 1"  # another meaning of the key needs another number


class ResponseCacheSettings(PolicySettings):
    """How much is kept.

    memory_bytes     in each process; 0 keeps nothing there
    redis            a second level that processes share; it outlives them
    ttl_seconds      how long Redis keeps an answer (answers do not age: this only makes room)
    max_value_bytes  a larger answer is not kept
    """

    memory_bytes: int = Field(default=64 * 1024 * 1024, ge=0, le=64 * 1024**3)
    redis: RedisSettings | None = None
    ttl_seconds: int = Field(default=86400, ge=1, le=365 * 86400)
    max_value_bytes: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024**2)
    key_prefix: str = Field(default="mobile_mm:response", pattern=r"^[A-Za-z0-9_:.-]{1,64}$")


@dataclass(frozen=True, kw_only=True)
class CachedResponse:
    """An answer and where it came from: `shared` is one that another request was working out already."""

    value: dict[str, Any]
    source: Source

    @property
    def is_cached(self) -> bool:
        """Whether nothing was worked out for this request."""
        return self.source != "computed"


@dataclass(frozen=True, kw_only=True)
class ResponseCacheStatus:
    """What the metrics mobile_multimodal_cache_*{cache="response"} show; the counts go on from the start."""

    memory_hits: int
    redis_hits: int
    shared: int
    misses: int
    dropped: int  # values in Redis that were damaged, foreign or of another model
    entries: int
    memory_bytes: int
    memory_limit_bytes: int
    redis: RedisStatus | None


def response_key(
    *,
    model_version: str,
    task: str,
    image: bytes | None = None,
    question: str | None = None,
    text: str | None = None,
    options: Sequence[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> str:
    """The SHA-256, in hex, of all that an answer depends on.

    Every part goes in with its length before it, so that no two different questions write the same bytes; a part that
    is absent differs from an empty one. Parameters are JSON with sorted names: their order does not matter.
    """
    digest = hashlib.sha256(_KEY_FORMAT)

    def add(part: bytes | None) -> None:
        digest.update(b"-" if part is None else b"+" + len(part).to_bytes(8, "big"))
        if part is not None:
            digest.update(part)

    def add_text(part: str | None) -> None:
        # surrogatepass: JSON may bring half of a surrogate pair, which is no reason to fail here
        add(None if part is None else part.encode("utf-8", errors="surrogatepass"))

    add_text(model_version)
    add_text(task)
    add(image)
    add_text(question)
    add_text(text)
    add_text(None if options is None else str(len(options)))
    for option in options or ():
        add_text(option)
    add_text(json.dumps(dict(parameters or {}), sort_keys=True, separators=(",", ":"), allow_nan=False))
    return digest.hexdigest()


class ResponseCache:
    """Answers of one model file. They are kept as JSON, so that no caller can change what another one gets."""

    def __init__(self, settings: ResponseCacheSettings, *, model_version: str) -> None:
        """model_version: the identity of the model file; the names and the values in Redis have it in them."""
        self._settings = settings
        self._model_version = model_version
        self._memory: LRUCache[str, bytes] = LRUCache(maxsize=settings.memory_bytes, getsizeof=_entry_bytes)
        self._guard = RedisGuard(settings.redis, "cache") if settings.redis is not None else None
        readable = re.sub(r"[^A-Za-z0-9_.-]", "_", model_version)[:80]
        self._redis_prefix = f"{settings.key_prefix}:{readable}:"
        self._flights: SingleFlight[tuple[dict[str, Any], Source]] = SingleFlight()
        self._writes: set[asyncio.Task[None]] = set()
        self._memory_hits = self._redis_hits = self._shared = self._misses = self._dropped = 0

    async def get_or_compute(
        self, key: str, compute: Callable[[], Awaitable[dict[str, Any]]], *, deadline: float | None = None
    ) -> CachedResponse:
        """The answer to `key` (of response_key), worked out by `compute` if need be; errors are not kept.

        Requests for the same key at the same time share one `compute`, which runs in a task of its own: it is cancelled
        when all of them have gone. DeadlineExceededError at `deadline`, a value of time.monotonic().
        """
        kept = self._from_memory(key)
        if kept is not None:
            return kept

        async def find() -> tuple[dict[str, Any], Source]:
            found = await self._from_redis(key)
            if found is not None:
                self._redis_hits += 1
                self._keep_in_memory(key, _to_json(found))
                return found, "redis"
            self._misses += 1
            value = await compute()
            self.put(key, value)
            return value, "computed"

        (value, source), leads = await self._flights.run(key, find, deadline=deadline)
        if leads:
            return CachedResponse(value=value, source=source)
        self._shared += 1
        return CachedResponse(value=copy.deepcopy(value), source="shared")  # each caller owns his

    async def get(self, key: str) -> CachedResponse | None:
        """The answer to `key` if one is kept."""
        kept = self._from_memory(key)
        if kept is not None:
            return kept
        found = await self._from_redis(key)
        if found is None:
            self._misses += 1
            return None
        self._redis_hits += 1
        self._keep_in_memory(key, _to_json(found))
        return CachedResponse(value=found, source="redis")

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Keeps an answer; sending it to Redis goes on in the background, nobody waits for it."""
        try:
            text = _to_json(value)
        except (ValueError, TypeError):  # an answer that is no JSON fails where it is sent, not here
            return
        self._keep_in_memory(key, text)
        guard = self._guard
        if guard is None or not guard.is_up or len(text) > self._settings.max_value_bytes:
            return
        if len(self._writes) >= _MAX_WRITES:
            return
        task = asyncio.get_running_loop().create_task(self._write(guard, key, value))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    def status(self) -> ResponseCacheStatus:
        """The counts and sizes."""
        return ResponseCacheStatus(
            memory_hits=self._memory_hits,
            redis_hits=self._redis_hits,
            shared=self._shared,
            misses=self._misses,
            dropped=self._dropped,
            entries=len(self._memory),
            memory_bytes=int(self._memory.currsize),
            memory_limit_bytes=self._settings.memory_bytes,
            redis=None if self._guard is None else self._guard.status(),
        )

    async def close(self) -> None:
        """Waits for what is on its way to Redis (each ends by its time-out) and closes the connections."""
        if self._writes:
            await asyncio.wait(self._writes)
        if self._guard is not None:
            await self._guard.close()

    def _from_memory(self, key: str) -> CachedResponse | None:
        text = self._memory.get(key)
        if text is None:
            return None
        self._memory_hits += 1
        return CachedResponse(value=json.loads(text), source="memory")

    def _keep_in_memory(self, key: str, text: bytes) -> None:
        size = _entry_bytes(text)
        if len(text) <= self._settings.max_value_bytes and size <= self._settings.memory_bytes:
            self._memory[key] = text

    async def _from_redis(self, key: str) -> dict[str, Any] | None:
        guard = self._guard
        if guard is None or not guard.is_up:
            return None
        name = self._redis_prefix + key
        # One byte more than can be right: what somebody else put there cannot fill the memory here.
        most = self._settings.max_value_bytes + _ENVELOPE_BYTES
        try:
            text = await guard.call(lambda client: _read(client, name, most + 1))
            if not text:
                return None
            value = None if len(text) > most else self._opened(key, text)
        except RedisValueError:
            value = None
        except RedisCallError:
            return None
        if value is None:
            self._dropped += 1
            await self._delete(guard, name)
        return value

    def _opened(self, key: str, text: bytes) -> dict[str, Any] | None:
        """The answer in an envelope, if it is whole and the one to this key and this model."""
        try:
            envelope = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return None
        if not isinstance(envelope, dict) or envelope.keys() != {"key", "model_version", "value"}:
            return None
        if envelope["key"] != key or envelope["model_version"] != self._model_version:
            return None
        value = envelope["value"]
        return value if isinstance(value, dict) else None

    async def _write(self, guard: RedisGuard, key: str, value: dict[str, Any]) -> None:
        text = _to_json({"key": key, "model_version": self._model_version, "value": value})
        try:
            await guard.call(lambda client: client.set(self._redis_prefix + key, text, ex=self._settings.ttl_seconds))
        except RedisCallError:
            return  # the guard has counted it; the answer is in memory

    async def _delete(self, guard: RedisGuard, name: str) -> None:
        try:
            await guard.call(lambda client: client.delete(name))
        except RedisCallError:
            return


async def _read(client: Redis, name: str, most: int) -> bytes:
    text = await client.getrange(name, 0, most - 1)
    return text if isinstance(text, bytes) else str(text).encode()


def _entry_bytes(text: bytes) -> int:
    return len(text) + _ENTRY_BYTES


def _to_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
