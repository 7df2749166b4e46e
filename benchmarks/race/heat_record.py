"""Turns a heat into what a record keeps of it: medians and spread, and how many times as fast ours is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from race.figures import ratio
from race.rounds import Heat


@dataclass(frozen=True)
class Work:
    """What a run of a workload does: `amount` of `unit` (64 tokens, 1 caption)."""

    title: str
    amount: float
    unit: str


def heat_record(title: str, heat: Heat, works: Mapping[str, Work], rivals: Mapping[str, str]) -> dict[str, Any]:
    """rivals: for each peer the one of ours that it is compared with."""
    return {
        "title": title,
        "threads": heat.threads,
        "rounds": heat.rounds,
        "workloads": {
            name: {"title": work.title, "amount": work.amount, "unit": work.unit} for name, work in works.items()
        },
        "rivals": dict(rivals),
        "times_as_fast": {
            workload: {
                peer: ratio(heat.times[ours][workload], heat.times[peer][workload])
                for peer, ours in rivals.items()
                if peer in heat.times
            }
            for workload in works
        },
        "times": heat.summaries(),
        "idle_cpu_share": heat.idle_share,
    }


def check_heat(record: Mapping[str, Any]) -> None:
    """Raises ValueError when a heat's record lacks a contestant, a time or a ratio, or holds one that is no time."""
    where = f"heat `{record['title']}` on {record['threads']} threads"
    if record["rounds"] < 1 or not record["workloads"]:
        raise ValueError(f"{where} has no rounds or no workloads")
    for workload in record["workloads"]:
        times = record["times"].get(workload, {})
        for peer, ours in record["rivals"].items():
            for name in (peer, ours):
                if not times.get(name, {}).get("median_ms", 0) > 0:
                    raise ValueError(f"{where} has no time of {name} for {workload}")
            if not record["times_as_fast"][workload].get(peer, {}).get("times_as_fast", 0) > 0:
                raise ValueError(f"{where} has no ratio to {peer} for {workload}")
