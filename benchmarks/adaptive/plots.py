"""Draws accuracy over CPU time of every operating point, the profiles marked: docs/images/adaptive.png."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from mobile_multimodal.settings import PROFILES


def draw_points(record: dict[str, Any], target: Path) -> None:
    """Captions on the left, pages of small print on the right; whiskers are 95 % intervals over pictures."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    threads = min(row["threads"] for row in record["captions"])
    for row in record["captions"]:
        if row["threads"] == threads:
            _point(left, row["cpu_ms_mean"], row["cider_d"], f"{row['num_beams']}", 1.0)
    left.set(xlabel=f"CPU time of a caption, ms ({threads} thread)", ylabel="CIDEr-D, Flickr8k dev")
    left.set_title("Captions by number of beams", fontsize=10)
    for row in record["pages"]:
        if row["threads"] == threads and row["pages"] == "documents" and row["batch_lines"] == 8:
            _point(right, row["cpu_ms_mean"], row["cer"], f"{row['max_side']}", 100.0)
    right.set(xlabel=f"CPU time of a page, ms ({threads} thread)", ylabel="wrong characters, % (log)", yscale="log")
    right.set_title("Pages of small print by max_side", fontsize=10)
    chosen = {"num_beams": "beams", "max_side": "max_side"}
    notes = [
        f"{profile.name}: {chosen['num_beams']} {profile.num_beams}, {chosen['max_side']} {profile.max_side}"
        for profile in PROFILES.values()
    ]
    figure.suptitle("   ".join(notes), fontsize=9)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    plt.close(figure)


def _point(axes: Any, x: float, interval: dict[str, float], label: str, factor: float) -> None:
    value, low, high = (factor * interval[name] for name in ("value", "low", "high"))
    axes.errorbar(x, value, yerr=[[value - low], [high - value]], fmt="o", color="#205080", capsize=3)
    axes.annotate(label, (x, value), textcoords="offset points", xytext=(6, 6), fontsize=9)
