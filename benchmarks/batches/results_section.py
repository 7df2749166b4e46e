"""Makes the section about batches of benchmarks/results/README.md from a record of batch_benchmark.py."""

from __future__ import annotations

from typing import Any


def section_of(record: dict[str, Any]) -> str:
    """Markdown: the circumstances, then a row a batch size."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    lines = [
        "# Captions in batches",
        "",
        f"Made by `{record['command']}` on {record['date']}, commit {record['commit']}"
        + (" with uncommitted changes" if record["uncommitted_changes"] else "")
        + f"; {record['cpu']}, {record['cpus_usable']} CPUs, load {record['load_average_before']:.1f} before the run"
        + (" (the benchmark itself at real-time priority);" if record["real_time_priority"] else ";")
        + f" kernels {record['isa']}; {versions}.",
        f"{record['pictures']} pictures, {record['rounds']} rounds in which the sizes take turns. Ratios are medians"
        + " over rounds of the time one by one over the time in batches: above 1, batches are faster.",
        "",
        "| threads | beams | batch | captions a second | ratio | CPU ms a caption | ratio | decode, ms | ratio |",
        "|---" * 9 + "|",
    ]
    for row in record["results"]:
        cells = [
            str(row["threads"]),
            str(row["num_beams"]),
            str(row["batch_size"]),
            f"{row['captions_per_second']:.1f}",
            f"{row['ratio_to_one_by_one']:.2f}",
            f"{row['cpu_milliseconds']:.2f}",
            f"{row['cpu_ratio_to_one_by_one']:.2f}",
            f"{row['decode_milliseconds']:.2f}",
            f"{row['decode_ratio_to_one_by_one']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
