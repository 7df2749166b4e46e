"""Sends requests in two ways: at random times whatever the server does (open), or one after the other (closed)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

TIMEOUT_SECONDS = 30.0
REFUSED_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request. `seconds` counts from when it should have been sent, not from when the client came round to it:
    a client that is late because the server is slow must not hide that (coordinated omission)."""

    at: float  # seconds since the phase began, when it should have been sent
    late_seconds: float  # how long after that it was sent
    seconds: float
    status: int  # 0: no answer
    error: str
    is_cached: bool
    has_retry_after: bool


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A client without a bound on connections: arrivals must not wait for each other."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        headers={"Content-Type": "application/json"},
    ) as session:
        yield session


async def send(session: aiohttp.ClientSession, url: str, body: bytes, start: float, due: float) -> Outcome:
    """One request that should have been sent at `due`, on the clock of time.perf_counter()."""
    sent = time.perf_counter()
    status, error, is_cached, has_retry_after = 0, "", False, False
    try:
        async with session.post(url, data=body) as answer:
            text = await answer.read()
            status = answer.status
            has_retry_after = "Retry-After" in answer.headers
            is_cached = b'"cached":true' in text or b'"cached": true' in text
            if status >= 400:
                error = text[:200].decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError, OSError) as failure:
        error = type(failure).__name__
    end = time.perf_counter()
    return Outcome(due - start, sent - due, end - due, status, error, is_cached, has_retry_after)


async def open_arrivals(
    session: aiohttp.ClientSession, url: str, bodies: Iterator[bytes], rate: float, seconds: float, seed: int
) -> list[Outcome]:
    """Poisson arrivals: gaps are exponential with a mean of 1 / rate, and nobody waits for an answer."""
    chance = random.Random(seed)
    start = due = time.perf_counter()
    tasks: list[asyncio.Task[Outcome]] = []
    while True:
        due += chance.expovariate(rate)
        if due > start + seconds:
            break
        body = next(bodies)
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.ensure_future(send(session, url, body, start, due)))
    return await asyncio.gather(*tasks)


async def closed_loop(
    session: aiohttp.ClientSession, url: str, bodies: Iterator[bytes], clients: int, seconds: float
) -> list[Outcome]:
    """So many clients, each sending its next request when it has the answer to the last: what the server can do."""
    start = time.perf_counter()

    async def one_client() -> list[Outcome]:
        outcomes = []
        while time.perf_counter() < start + seconds:
            outcomes.append(await send(session, url, next(bodies), start, time.perf_counter()))
            if outcomes[-1].status != 200:
                await asyncio.sleep(REFUSED_PAUSE_SECONDS)  # or refusals would be all that the server does
        return outcomes

    return [
        outcome for outcomes in await asyncio.gather(*(one_client() for _ in range(clients))) for outcome in outcomes
    ]
