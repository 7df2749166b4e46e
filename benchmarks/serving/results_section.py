"""Makes the section about the server of benchmarks/results/README.md from a record of load_benchmark.py."""

from __future__ import annotations

from typing import Any

LOAD_PLOT = "serving-load.png"  # under docs/images; benchmarks/serving/plots.py draws them
MEMORY_PLOT = "serving-memory.png"
WARM_SECONDS = 60.0  # every task has run and filled the caches by then


def section_of(record: dict[str, Any]) -> str:
    """Markdown: the circumstances, each task at each load, memory, caches, peers."""
    parts = [
        ["# Serving", "", *_circumstances(record)],
        _loads(record),
        _memory(record),
        _caches(record),
        _plain_handler(record) if "plain_handler" in record else [],
        _http_part(record["http_part"]) if "http_part" in record else [],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _circumstances(record: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    material = record["material"]
    settings = f"settings `{' '.join(record['server_settings'])}`" if record["server_settings"] else "its defaults"
    return [
        f"Made by `{record['command']}` on {record['date']}, commit {record['commit']}"
        + (" with uncommitted changes" if record["uncommitted_changes"] else "")
        + f"; {record['cpu']}, {record['cpus_usable']} CPUs, load {record['load_average_before']:.1f} before the run;"
        + f" kernels {record['model']['isa']}; {versions}.",
        "",
        f"One `mobile-mm serve` with {settings}; the client on the same two CPUs. {material['pictures']} different"
        f" pictures of {material['mean_picture_bytes'] / 1000:.1f} kB, {material['pages']} drawn pages of 12 lines, no"
        " two requests with the same bytes. Arrivals at random times (Poisson), whatever the server does. Latency"
        " counts from when a request should have been sent. Capacity is what 24 clients get that each wait for their"
        f" answer. {record['seconds_of_a_phase']:g} s a phase.",
    ]


def _loads(record: dict[str, Any]) -> list[str]:
    lines = [
        f"![Latency and answers by load](../../docs/images/{LOAD_PLOT})",
        "",
        "| task, capacity | load | sent /s | answered /s | p50 ms | p95 ms | p99 ms | refused (503, 429) |"
        " refused p95 ms | other | CPUs: front, workers, client |",
        "|---" * 11 + "|",
    ]
    for found in record["loads"]:
        task = found["task"]
        name = f"{task}, {record['capacity_per_second'][task]:.1f} /s" if found["load"] == 0.5 else ""
        answered, refused = found["answered_milliseconds"], found.get("refused_milliseconds", {})
        others = found["sent"] - found["answered"] - sum(found["by_status"].get(status, 0) for status in ("429", "503"))
        used = found["usage"]
        cells = [
            name,
            f"{found['load']:g} x",
            f"{found['sent_per_second']:.1f}",
            f"{found['answered_per_second']:.1f}",
            *(_number(answered.get(key)) for key in ("p50", "p95", "p99")),
            f"{sum(found['by_status'].get(status, 0) for status in ('429', '503'))} of {found['sent']}",
            _number(refused.get("p95")),
            str(others),
            ", ".join(f"{used[group]['cpus']:.2f}" for group in ("front", "workers", "load_generator")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _memory(record: dict[str, Any]) -> list[str]:
    last = record["memory"][-1]
    first = next((sample for sample in record["memory"] if sample["seconds"] >= WARM_SECONDS), record["memory"][0])
    files = record["files_of_the_front"]
    return [
        f"![Memory over the run](../../docs/images/{MEMORY_PLOT})",
        "",
        "Resident memory (shared pages count in each process) and its proportional share, MB:",
        "",
        f"| | after {first['seconds']:.0f} s | after {last['seconds']:.0f} s |",
        "|---|---|---|",
        f"| front, resident | {first['front_rss_mb']:.0f} | {last['front_rss_mb']:.0f} |",
        f"| fork server and workers, resident | {first['workers_rss_mb']:.0f} | {last['workers_rss_mb']:.0f} |",
        f"| fork server and workers, proportional | {first['workers_pss_mb']:.0f} | {last['workers_pss_mb']:.0f} |",
        "",
        f"Open files of the front: {files['first']:.0f} before, {files['last']:.0f} after. Workers replaced:"
        f" {record['worker_restarts']}.",
    ]


def _caches(record: dict[str, Any]) -> list[str]:
    same, zipf = record["identical_picture"], record["zipf"]
    return [
        "| captions by a closed loop | clients | answered /s | from the cache | p50 ms | p95 ms | p99 ms |",
        "|---|---|---|---|---|---|---|",
        f"| all of the same picture | {same['clients']} | {same['answered_per_second']:.0f} |"
        f" {same['cached'] / max(1, same['answered']):.1%} | " + _three(same["answered_milliseconds"]) + " |",
        f"| of {zipf['population']} pictures, Zipf with exponent {zipf['exponent']:g}, from an empty cache |"
        f" {zipf['clients']} | {zipf['answered_per_second']:.0f} | {zipf['hit_rate']:.1%} | "
        + _three(zipf["answered_milliseconds"])
        + " |",
        f"| ... of those, from the cache | | | | {_three(zipf['hit_milliseconds'])} |",
        f"| ... of those, computed | | | | {_three(zipf['miss_milliseconds'])} |",
    ]


def _plain_handler(record: dict[str, Any]) -> list[str]:
    lines = [
        "The same model file behind a plain FastAPI handler (`benchmarks/serving/plain_handler.py`, uvicorn with 2"
        " processes, no queue, no batches, no deadlines), at the same rates of arrival:",
        "",
        "| task | answered /s, 24 clients | ours | p95 ms at 1 x our capacity | ours | p95 ms at 2 x | ours |"
        " last answer after, 2 x | ours |",
        "|---" * 9 + "|",
    ]
    ours = {(found["task"], found["load"]): found for found in record["loads"]}
    for task, found in record["plain_handler"]["tasks"].items():
        once, twice = found["at_1_times_our_capacity"], found["at_2_times_our_capacity"]
        lines.append(
            f"| {task} | {found['closed_loop']['answered_per_second']:.1f} | {record['capacity_per_second'][task]:.1f}"
            f" | {_number(once['answered_milliseconds'].get('p95'))}"
            f" | {_number(ours[task, 1.0]['answered_milliseconds'].get('p95'))}"
            f" | {_number(twice['answered_milliseconds'].get('p95'))}"
            f" | {_number(ours[task, 2.0]['answered_milliseconds'].get('p95'))}"
            f" | {twice['last_answer_after_seconds']:.1f} s of {record['plain_handler']['seconds']:g}"
            f" | {ours[task, 2.0]['last_answer_after_seconds']:.1f} s of {record['seconds_of_a_phase']:g} |"
        )
    return lines


def _http_part(found: dict[str, Any]) -> list[str]:
    lines = [
        f"The HTTP part alone, client: {found['client']}.",
        "",
        "| server | request | p50 ms | p95 ms | p99 ms | requests /s with 8 connections |",
        "|---|---|---|---|---|---|",
    ]
    for server, requests in found.items():
        if server == "client" or isinstance(requests, str):
            continue
        for request, values in requests.items():
            if request == "version":
                continue
            rate = values.get("wrk_requests_per_second")
            cells = [server, request, _three(values["milliseconds"]), "" if rate is None else f"{rate:.0f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _three(milliseconds: dict[str, float]) -> str:
    return " | ".join(_number(milliseconds.get(key)) for key in ("p50", "p95", "p99"))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"
