"""Draws the plots of the newest load test into docs/images: `python benchmarks/serving/plots.py [RECORD.json]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent.parent / "docs/images"
sys.path[:0] = [str(HERE), str(HERE.parent)]

from results_page import records_of  # noqa: E402
from results_section import LOAD_PLOT, MEMORY_PLOT  # noqa: E402

TARGET_MILLISECONDS = 500


def load_plot(record: dict[str, Any], output: Path) -> None:
    """Above: latency of the answered by load. Below: how many were answered and refused."""
    tasks = list(dict.fromkeys(found["task"] for found in record["loads"]))
    figure, axes = plt.subplots(2, len(tasks), figsize=(3.4 * len(tasks), 6), sharex=True, squeeze=False)
    for column, task in enumerate(tasks):
        phases = [found for found in record["loads"] if found["task"] == task]
        loads = [phase["load"] for phase in phases]
        above, below = axes[0][column], axes[1][column]
        for key, shade in (("p50", "#7fb2e5"), ("p95", "#1f6fb4"), ("p99", "#0b3d69")):
            values = [phase["answered_milliseconds"].get(key, float("nan")) for phase in phases]
            above.plot(loads, values, marker="o", label=key, color=shade)
        refused = [phase.get("refused_milliseconds", {}).get("p95", float("nan")) for phase in phases]
        above.plot(loads, refused, marker="x", linestyle=":", color="#b34700", label="p95 of a refusal")
        above.axhline(TARGET_MILLISECONDS, color="#888888", linestyle="--", linewidth=1)
        above.set_yscale("log")
        above.set_ylim(1, 10_000)
        above.set_title(f"{task}: {record['capacity_per_second'][task]:.0f} a second")
        answered = [phase["answered"] / phase["sent"] * phase["sent_per_second"] for phase in phases]
        sent = [phase["sent_per_second"] for phase in phases]
        below.bar(loads, answered, width=0.3, label="answered", color="#1f6fb4")
        below.bar(
            loads,
            [all_sent - good for all_sent, good in zip(sent, answered, strict=True)],
            width=0.3,
            bottom=answered,
            label="refused",
            color="#e8a06b",
        )
        below.set_xticks(loads, [f"{load:g} x" for load in loads])
        below.set_xlabel("arrivals, in capacities")
    axes[0][0].set_ylabel("ms from the intended time; dashed: 500")
    axes[1][0].set_ylabel("requests a second")
    axes[0][0].legend(fontsize=8)
    axes[1][0].legend(fontsize=8)
    _save(figure, output)


def memory_plot(record: dict[str, Any], output: Path) -> None:
    """Memory of the processes from the first phase to the last."""
    figure, axis = plt.subplots(figsize=(9, 3.4))
    minutes = [sample["seconds"] / 60 for sample in record["memory"]]
    for key, label, colour in (
        ("workers_rss_mb", "fork server and workers, resident", "#1f6fb4"),
        ("workers_pss_mb", "fork server and workers, proportional", "#7fb2e5"),
        ("front_rss_mb", "front, resident", "#b34700"),
    ):
        axis.plot(minutes, [sample[key] for sample in record["memory"]], label=label, color=colour)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("minutes")
    axis.set_ylabel("MB")
    axis.legend(fontsize=8)
    _save(figure, output)


def _save(figure: Any, output: Path) -> None:
    figure.tight_layout()
    figure.savefig(output, dpi=110)
    plt.close(figure)


def main() -> None:
    """Draws both plots."""
    given = [json.loads(Path(file).read_text(encoding="utf-8")) for file in sys.argv[1:2]]
    records = given or records_of("serving")
    if not records:
        sys.exit("no record yet: run benchmarks/serving/load_benchmark.py first")
    load_plot(records[0], IMAGES / LOAD_PLOT)
    memory_plot(records[0], IMAGES / MEMORY_PLOT)


if __name__ == "__main__":
    main()
