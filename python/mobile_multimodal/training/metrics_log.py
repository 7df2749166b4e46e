"""Writes one JSON line a round and draws the curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def figure_of(record: Record, name: str) -> float:
    """The figure under a name, the middle of it where it is an interval."""
    found = record[name]
    return float(found["value"] if isinstance(found, dict) else found)


class MetricsLog:
    """`metrics.jsonl` in a folder, with `metrics.png` beside it; lines after a resumed round are dropped.

    headline: the figure that is drawn beside the loss, a number or an interval of low, value and high.
    """

    def __init__(self, folder: Path, headline: str, rounds_kept: int = 0) -> None:
        self._headline = headline
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        self._plot = folder / "metrics.png"
        self.records = [record for record in self._read() if record["round"] <= rounds_kept]
        self._path.write_text("".join(json.dumps(record) + "\n" for record in self.records), encoding="utf-8")

    def _read(self) -> list[Record]:
        if not self._path.is_file():
            return []
        return [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines() if line]

    def append(self, record: Record) -> None:
        """Adds the figures of a round (its number under 'round') and draws the plot again."""
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._draw()

    def _draw(self) -> None:
        import matplotlib.figure  # 0.5 s to import: only where a plot is drawn

        rounds = [record["round"] for record in self.records]
        figure = matplotlib.figure.Figure(figsize=(8, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(rounds, [record["loss"] for record in self.records], marker="o")
        left.set(xlabel="round", ylabel="training loss")
        label = f"{self._headline} on dev"
        if isinstance(self.records[-1][self._headline], dict):
            intervals = [record[self._headline] for record in self.records]
            right.fill_between(rounds, [i["low"] for i in intervals], [i["high"] for i in intervals], alpha=0.2)
            label += " (95 % interval)"
        right.plot(rounds, [figure_of(record, self._headline) for record in self.records], marker="o")
        right.set(xlabel="round", ylabel=label)
        figure.savefig(self._plot, dpi=120)
