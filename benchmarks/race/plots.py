"""Draws how many times as fast ours is: `python -m race.plots [RECORD.json ...]`, into docs/images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from race.page_section import plot_name
from race.tables import threads_text

IMAGES = Path(__file__).resolve().parent.parent.parent / "docs/images"
# Neutral on a light and on a dark page: no background, and greys and colours that both can carry.
_INK, _THREAD_COLOURS = "#808080", {1: "#4c9be8", 2: "#e08a2e"}
_TICKS = (0.25, 0.5, 1, 2, 4, 8, 16, 32)


def draw(record: dict[str, Any], folder: Path = IMAGES) -> Path:
    """A bar for each peer, workload and number of threads, with quartiles over rounds; right of the line ours wins."""
    heats = record["part"]["heats"]
    titles = list(dict.fromkeys(heat["title"] for heat in heats))
    groups = {title: _bars([heat for heat in heats if heat["title"] == title]) for title in titles}
    heights = [len(bars) for bars in groups.values()]
    figure, axes = plt.subplots(
        len(titles),
        1,
        figsize=(8.5, 0.22 * sum(heights) + 0.9 * len(titles) + 0.5),
        squeeze=False,
        gridspec_kw={"height_ratios": [height + 2 for height in heights]},
    )
    for axis, (title, bars) in zip(axes[:, 0], groups.items(), strict=True):
        for place, (_, threads, found) in enumerate(bars):
            value, (low, high) = found["times_as_fast"], found["quartiles"]
            colour = _THREAD_COLOURS.get(threads, _INK)
            axis.barh(place, value - 1, left=1, color=colour, height=0.75)
            axis.plot([low, high], [place, place], color=_INK, linewidth=1)
            axis.annotate(f" {value:.2f}", (max(value, high, 1), place), va="center", fontsize=7, color=_INK)
        axis.set_yticks(range(len(bars)), [label for label, _, _ in bars], fontsize=7)
        axis.invert_yaxis()
        axis.set_xscale("log")
        values = [edge for _, _, found in bars for edge in (found["times_as_fast"], *found["quartiles"], 1)]
        axis.set_xlim(min(values) * 0.8, max(values) * 1.35)
        axis.xaxis.set_major_locator(FixedLocator(_TICKS))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        axis.axvline(1, color=_INK, linewidth=1)
        axis.set_title(f"{title}: how many times as fast ours is", fontsize=9, color=_INK, loc="left")
        axis.tick_params(colors=_INK)
        for spine in axis.spines.values():
            spine.set_color(_INK)
            spine.set_linewidth(0.5)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / plot_name(record)
    figure.tight_layout()
    figure.savefig(path, dpi=110, transparent=True, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return path


def _bars(heats: list[dict[str, Any]]) -> list[tuple[str, int, dict[str, Any]]]:
    return [
        (
            f"{heat['workloads'][workload]['title']}, {peer}, {threads_text(heat['threads'])}",
            heat["threads"],
            found,
        )
        for workload in heats[0]["workloads"]
        for peer in heats[0]["rivals"]
        for heat in heats
        if (found := heat["times_as_fast"][workload].get(peer)) is not None
    ]
