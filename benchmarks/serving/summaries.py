"""Boils outcomes and samples down to the figures of a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from arrivals import Outcome


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest in milliseconds; nothing of nothing."""
    if not seconds:
        return {}
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

    return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": round(1000 * ordered[-1], 2)}


def summary(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """What was sent, answered and refused in a phase of so many seconds, and how long each took.

    Answers a second count until the last answer: a server that answers everything an hour later is not fast.
    """
    answered = [outcome for outcome in outcomes if outcome.status == 200]
    refused = [outcome for outcome in outcomes if outcome.status in (429, 503)]
    statuses = Counter(str(outcome.status) for outcome in outcomes)
    others = Counter(outcome.error for outcome in outcomes if outcome.status not in (200, 429, 503))
    until = max([seconds, *(outcome.at + outcome.seconds for outcome in outcomes)])
    found: dict[str, Any] = {
        "sent": len(outcomes),
        "sent_per_second": round(len(outcomes) / seconds, 2),
        "answered": len(answered),
        "answered_per_second": round(len(answered) / until, 2),
        "last_answer_after_seconds": round(until, 2),
        "by_status": dict(sorted(statuses.items())),
        "cached": sum(outcome.is_cached for outcome in answered),
        "answered_milliseconds": percentiles([outcome.seconds for outcome in answered]),
        "sent_late_milliseconds": percentiles([outcome.late_seconds for outcome in outcomes]),
    }
    if refused:
        found["refused_milliseconds"] = percentiles([outcome.seconds for outcome in refused])
        found["refused_with_retry_after"] = sum(outcome.has_retry_after for outcome in refused)
    if others:
        found["other_errors"] = dict(others.most_common(5))
    return found


def over_time(outcomes: Sequence[Outcome], step: float = 5.0) -> list[dict[str, Any]]:
    """The same by the time at which requests should have been sent, for plots."""
    steps: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        steps.setdefault(int(outcome.at // step), []).append(outcome)
    return [
        {
            "seconds": index * step,
            "answered_per_second": round(sum(outcome.status == 200 for outcome in group) / step, 2),
            "refused_per_second": round(sum(outcome.status in (429, 503) for outcome in group) / step, 2),
            "p95_milliseconds": percentiles([o.seconds for o in group if o.status == 200]).get("p95"),
        }
        for index, group in sorted(steps.items())
    ]


def usage(samples: Sequence[dict[str, Any]], front: int, generator: int) -> dict[str, Any]:
    """Memory at the beginning and the end, and processors used meanwhile. Worker: all but the front and the client."""
    first, last = samples[0], samples[-1]
    seconds = max(1e-9, last["seconds"] - first["seconds"])

    def group(sample: dict[str, Any], key: str, pids: set[int]) -> float:
        return float(sum(found[key] for pid, found in sample["processes"].items() if pid in pids))

    below = {pid for sample in samples for pid in sample["processes"]} - {front, generator}
    groups = {"front": {front}, "workers": below, "load_generator": {generator}}
    return {
        name: {
            "rss_mb_first": round(group(first, "rss", pids) / 1e6, 1),
            "rss_mb_last": round(group(last, "rss", pids) / 1e6, 1),
            "pss_mb_last": round(group(last, "pss", pids) / 1e6, 1),
            "cpus": round((group(last, "cpu_seconds", pids) - group(first, "cpu_seconds", pids)) / seconds, 2),
        }
        for name, pids in groups.items()
    } | {"machine": {"cpus": round((last["machine_cpu_seconds"] - first["machine_cpu_seconds"]) / seconds, 2)}}


def memory_over_time(samples: Sequence[dict[str, Any]], front: int, generator: int) -> list[dict[str, Any]]:
    """Resident and proportional memory of front and all workers, every fifth sample, for plots."""
    found = []
    for sample in samples[::5]:
        workers = [values for pid, values in sample["processes"].items() if pid not in (front, generator)]
        found.append(
            {
                "seconds": sample["seconds"],
                "front_rss_mb": round(sample["processes"].get(front, {}).get("rss", 0) / 1e6, 1),
                "workers_rss_mb": round(sum(values["rss"] for values in workers) / 1e6, 1),
                "workers_pss_mb": round(sum(values["pss"] for values in workers) / 1e6, 1),
            }
        )
    return found
