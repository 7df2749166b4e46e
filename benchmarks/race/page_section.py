"""Makes the sections about the race of benchmarks/results/README.md from its records."""

from __future__ import annotations

from typing import Any

from race.tables import part_tables

TITLES = {
    "race-language": "Race: language models",
    "race-vision": "Race: vision networks",
    "race-tasks": "Race: whole tasks",
    "race-memory": "Race: memory and start",
    "race-kernels": "Race: the limit, and where the time goes",
}


def plot_name(record: dict[str, Any]) -> str:
    """The file below docs/images: one for each instruction set."""
    return f"{record['benchmark']}-{record['isa']}.png"


def section_of(record: dict[str, Any]) -> str:
    """Markdown: the circumstances, what is missing, the plot, the tables, and what shows that all compute the same."""
    part = record["part"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items() if number != "not installed")
    lines = [
        f"# {TITLES[record['benchmark']]}, {record['isa']}",
        "",
        f"Made by `{record['command']}` on {record['date']}, commit {record['commit']}"
        + (" with uncommitted changes" if record["uncommitted_changes"] else "")
        + f"; {record['cpu']}, {record['cpus_usable']} CPUs, load {record['load_average_before']:.1f} before and"
        + f" {record['load_average_after']:.1f} after {record['seconds']:.0f} s"
        + (" (a quick run)" if record["is_quick"] else "")
        + f"; kernels {record['isa']}; {versions}. How it is kept fair: [benchmarks](../../docs/benchmarks.md).",
        "",
    ]
    for peer, command in record["missing_peers"].items():
        lines += [f"**Left out: {peer}** was not installed (`{command}`).", ""]
    if part.get("heats"):
        lines += [f"![How many times as fast](../../docs/images/{plot_name(record)})", ""]
    lines += part_tables(part)
    if part.get("checks"):
        lines += [
            "<details><summary>Do they compute the same?</summary>",
            "",
            *_checks(part["checks"]),
            "",
            "</details>",
            "",
        ]
    idle = [share for heat in part.get("heats", []) for share in heat["idle_cpu_share"].values()]
    if idle:
        rounds = sorted({heat["rounds"] for heat in part["heats"]})
        lines += [
            f"Rounds in a heat: {rounds[0]} to {rounds[-1]}. While others had their turns, no engine used more than"
            f" {100 * max(idle):.1f} % of a CPU.",
            "",
        ]
    if build := record["peer_builds"].get("llama.cpp"):
        lines += [f"llama.cpp says of itself: `{build}`.", ""]
    return "\n".join(lines)


def _checks(checks: dict[str, Any]) -> list[str]:
    """A line for each comparison."""
    lines = []
    for title, found in checks.items():
        lines.append(f"- {title}:")
        for name, values in found.items():
            shown = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items())
            lines.append(f"  - {name}: {shown}")
    return lines
