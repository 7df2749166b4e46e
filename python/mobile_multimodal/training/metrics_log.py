"""Writes one JSON line a round and draws the curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class MetricsLog:
    """`metrics.jsonl` in a folder, with `metrics.png` beside it; lines after a resumed round are dropped."""

    def __init__(self, folder: Path, rounds_kept: int = 0) -> None:
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
        low, value, high = ([record["cider_d"][name] for record in self.records] for name in ("low", "value", "high"))
        right.fill_between(rounds, low, high, alpha=0.2)
        right.plot(rounds, value, marker="o")
        right.set(xlabel="round", ylabel="CIDEr-D on dev (95 % interval)")
        figure.savefig(self._plot, dpi=120)
