"""Replays a Zipf workload against a fresh server: how often its response cache answers, and how fast."""

from __future__ import annotations

from typing import Any

import arrivals
from request_bodies import zipf_bodies
from server_process import ServerProcess
from summaries import percentiles, summary

EXPONENT = 1.0  # as of requests to web caches: between 0.64 and 0.83 (Breslau et al. 1999) and 1
POPULATION = 2000
CLIENTS = 4


async def zipf(pictures: list[bytes], settings: list[str], seconds: float) -> dict[str, Any]:
    """Captions of pictures drawn by popularity, from an empty cache on; hits and misses apart."""
    population = pictures[:POPULATION]
    with ServerProcess(settings) as server:
        async with arrivals.client() as session:
            bodies = zipf_bodies(population, EXPONENT, seed=1)
            outcomes = await arrivals.closed_loop(session, f"{server.api}/v1/caption", bodies, CLIENTS, seconds)
        counted = server.stats()["cache"]["response"]
    answered = [outcome for outcome in outcomes if outcome.status == 200]
    hits = [outcome.seconds for outcome in answered if outcome.is_cached]
    misses = [outcome.seconds for outcome in answered if not outcome.is_cached]
    return summary(outcomes, seconds) | {
        "exponent": EXPONENT,
        "population": len(population),
        "clients": CLIENTS,
        "hit_rate": round(len(hits) / max(1, len(answered)), 4),
        "hit_milliseconds": percentiles(hits),
        "miss_milliseconds": percentiles(misses),
        "counted_by_the_server": counted,
    }
