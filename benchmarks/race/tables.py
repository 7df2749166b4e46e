"""Shows a part of the race as tables of text, for a terminal and for the page: ratios first, then times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def part_tables(part: dict[str, Any]) -> list[str]:
    """Markdown lines, which a terminal shows well enough."""
    if "heats" in part:
        return heat_tables(part["heats"])
    if "processes" in part:
        return process_table(part["processes"])
    return kernel_tables(part)


def heat_tables(heats: Sequence[dict[str, Any]]) -> list[str]:
    """For each title a table of ratios and one of times, with a column for each workload and number of threads."""
    lines: list[str] = []
    for title in dict.fromkeys(heat["title"] for heat in heats):
        own = [heat for heat in heats if heat["title"] == title]
        columns = [(heat, name) for name in own[0]["workloads"] for heat in own]
        heads = [f"{heat['workloads'][name]['title']}, {threads_text(heat['threads'])}" for heat, name in columns]
        rows = [
            [f"{peer} (against {ours})", *(_ratio(heat["times_as_fast"][name].get(peer)) for heat, name in columns)]
            for peer, ours in own[0]["rivals"].items()
        ]
        lines += [f"**{title}**: how many times as fast ours is, median over rounds and quartiles", ""]
        lines += table(["", *heads], rows)
        names = list(dict.fromkeys(name for heat in own for times in heat["times"].values() for name in times))
        rows = [[name, *(_time(heat, workload, name) for heat, workload in columns)] for name in names]
        lines += ["", _unit_of(own[0]), ""]
        lines += [*table(["", *heads], rows), ""]
    return lines


def process_table(processes: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Time to ready, to the first use, and memory, by process."""
    rows = []
    for threads, own in processes.items():
        for title, found in own.items():
            values = (found["ready_ms"], found["slowest_ready_ms"], found["first_use_ms"], found["peak_mb"])
            rows.append([title, threads, *(f"{value:.0f}" for value in values)])
    heads = ["process", "threads", "start to ready, ms", "slowest, ms", "start to first use, ms", "peak memory, MB"]
    return [*table(heads, rows), ""]


def kernel_tables(part: dict[str, Any]) -> list[str]:
    """Kernels against the limit of the same run, then shares of programs."""
    ceilings = [
        f"{line['ceiling'].replace('_', ' ')} {line['gbytes_per_second']:.0f} GB/s"
        if "gbytes_per_second" in line
        else f"{line['ceiling'].replace('_', ' ')} {line['gmacs_per_second']:.0f} GMAC/s"
        for line in part["ceilings"]
    ]
    rows = [
        [
            line["kernel"],
            f"{line['n']} x {line['k']}",
            str(line["m"]),
            f"{line['gweights_per_second']:.1f}",
            f"{line['gmacs_per_second']:.0f}",
            f"{line['gbytes_per_second']:.1f}",
            f"{line['percent_of_limit']:.0f} ({line['limit']})",
        ]
        for line in part["kernels"]
        if "gweights_per_second" in line and "percent_of_limit" in line
    ]
    heads = ["kernel", "matrix", "rows at once", "Gweights/s", "GMAC/s", "GB/s", "percent of the limit"]
    lines = [f"Limits measured in the same run, one thread: {'; '.join(ceilings)}.", "", *table(heads, rows), ""]
    rows = []
    for line in part["programs"]:
        shown = f"{_shares(line['parts'])}: {_shares(line['shares'])}" if "parts" in line else _shares(line["shares"])
        if barriers := line.get("barriers"):
            shown += f"; {barriers['jobs']} barriers, about {100 * barriers['share']:.0f} %"
        rows_of_text = f", {line['rows']} row{'s' if line['rows'] > 1 else ''}" if line["rows"] else ""
        title = f"`{line['program']}` of `{line['file']}`{rows_of_text}"
        rows.append([title, str(line["threads"]), f"{line['median_ms']:.2f}", shown])
    return [*lines, *table(["program", "threads", "median, ms", "shares of its time"], rows), ""]


def _shares(shares: dict[str, float]) -> str:
    """The largest first; below one per cent none."""
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name.replace('_', ' ')} {100 * share:.0f} %" for name, share in ordered if share >= 0.01)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, columns aligned for those who read it as text."""
    every = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(heads))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in every
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def threads_text(count: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} thread{'s' if count > 1 else ''}"


def _ratio(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    low, high = found["quartiles"]
    return f"**{found['times_as_fast']:.2f}** ({low:.2f}-{high:.2f})"


def _unit_of(heat: dict[str, Any]) -> str:
    units = {work["unit"] for work in heat["workloads"].values()}
    if units == {"tokens"}:
        return "Tokens a second (median):"
    return "10^9 weights a second (median):" if units == {"weights"} else "Milliseconds (median, quartiles):"


def _time(heat: dict[str, Any], workload: str, name: str) -> str:
    found = heat["times"][workload].get(name)
    if found is None:
        return ""
    work = heat["workloads"][workload]
    if work["unit"] == "tokens":
        return f"{work['amount'] / found['median_ms'] * 1e3:.0f}"
    if work["unit"] == "weights":
        return f"{work['amount'] / found['median_ms'] * 1e-6:.1f}"
    return f"{found['median_ms']:.2f} ({found['first_quartile_ms']:.2f}-{found['third_quartile_ms']:.2f})"
