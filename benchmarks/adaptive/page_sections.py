"""Writes the tables of docs/adaptive.md between their marks, and its plot, from a record of adaptive_benchmark.py."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plots import draw_points


def write_page(record: dict[str, Any], root: Path, output: Path) -> None:
    """Replaces what stands between `<!-- NAME -->` and `<!-- end NAME -->`, for each part that the record has."""
    page = root / "docs/adaptive.md"
    text = page.read_text(encoding="utf-8")
    for name, (part, make) in SECTIONS.items():
        if part in record:
            table = "\n".join(make(record)) + "\n"
            pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
            text, count = pattern.subn(lambda found, table=table: found[1] + table + found[2], text)  # type: ignore[misc]
            if count != 1:
                raise SystemExit(f"docs/adaptive.md has {count} places for {name}, expected 1")
    page.write_text(text, encoding="utf-8")
    if "captions" in record:
        draw_points(record, root / "docs/images/adaptive.png")
    print(f"{os.path.relpath(page, root)} written from {output.name}")


def _circumstances(record: dict[str, Any]) -> list[str]:
    loads = ", ".join(f"{part} {load}" for part, load in record["load_average"].items())
    return [
        f"{record['date'][:10]}, commit {record['commit']}, {record['cpu']}, {record['cpus_usable']} CPUs, kernels "
        f"{record['isa']}; load of the machine before each part: {loads}."
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


def _interval(values: dict[str, float], digits: int = 3, factor: float = 1.0) -> str:
    numbers = (f"{factor * values[name]:.{digits}f}" for name in ("value", "low", "high"))
    return "{} [{}, {}]".format(*numbers)


def _profiles(record: dict[str, Any]) -> list[str]:
    rows = []
    for row in record["profiles"]:
        caption, pages = row["caption"], row["documents"]
        rows += [
            [
                f"`{row['profile']}`",
                f"caption, {caption['num_beams']} beam{'s' if caption['num_beams'] > 1 else ''}",
                f"CIDEr-D {_interval(caption['cider_d'])}",
                *_costs(caption),
            ],
            ["", f"page, {pages['max_side']}", f"CER {_interval(pages['cer'], 2, 100)} %", *_costs(pages)],
            ["", "question, 4 options", f"{_interval(row['choose']['accuracy'], 1, 100)} %", *_costs(row["choose"])],
            ["", "embedding", "the same for all", *_costs(row["embed_image"])],
        ]
    return _table(["profile", "task", "accuracy", "median, ms", "p95, ms", "CPU time, ms", "peak memory, MB"], rows)


def _costs(row: dict[str, Any]) -> list[str]:
    return [f"{row['median_ms']:.1f}", f"{row['p95_ms']:.1f}", f"{row['cpu_ms_mean']:.1f}", f"{row['peak_mb']:.0f}"]


def _captions(record: dict[str, Any]) -> list[str]:
    rows = [
        [
            str(row["num_beams"]),
            str(row["threads"]),
            _interval(row["cider_d"]),
            _interval(row["cider_d_ratio_to_3_beams"]),
            *_costs(row),
        ]
        for row in record["captions"]
    ]
    head = ["beams", "threads", "CIDEr-D", "ratio to 3 beams", "median, ms", "p95, ms", "CPU time, ms", "peak, MB"]
    return _table(head, rows)


def _pages(record: dict[str, Any]) -> list[str]:
    rows = [
        [
            row["pages"],
            str(row["max_side"]),
            str(row["batch_lines"]),
            str(row["threads"]),
            f"{_interval(row['cer'], 2, 100)}",
            f"{_interval(row['f1'], 1, 100)}",
            *_costs(row),
        ]
        for row in record["pages"]
    ]
    head = ["pages", "`max_side`", "lines a batch", "threads", "CER, %", "F1, %"]
    return _table([*head, "median, ms", "p95, ms", "CPU time, ms", "peak, MB"], rows)


def _budgets(record: dict[str, Any]) -> list[str]:
    rows = []
    for row in record["budgets"]:
        points = ", ".join(f"{name.split('=')[-1]}: {count}" for name, count in sorted(row["points"].items()))
        rows.append(
            [
                f"`{row['task']}`",
                f"{row['budget_ms']:g}",
                f"{row['held']} of {row['calls']}",
                f"{row['held_of_those']} of {row['said_to_fit']}",
                "one way" if row["points"].keys() == {"only"} else points,
                str(row.get("held_at_the_best_point", "")),
            ]
        )
    head = ["task", "budget, ms", "held", "held, of those said to fit", "calls at each point", "held, always the best"]
    return _table(head, rows)


def _streams(record: dict[str, Any]) -> list[str]:
    rows = [
        [
            row["stream"],
            str(row["threads"]),
            str(row["worked_on"]),
            str(row.get("repeated", 0)),
            str(row.get("dropped", 0)),
            f"{row['frames_per_second']:.0f}",
            f"{row['worked_on_per_second']:.0f}",
        ]
        for row in record["streams"]
    ]
    head = ["", "threads", "worked on", "repeated", "dropped", "frames a second", "worked on a second"]
    costs = ", ".join(f"{name.replace('_', ' ')} {ms:.2f}" for name, ms in record["frame_costs_ms"].items())
    return [*_table(head, rows), "", f"Milliseconds of a 640 x 480 frame on one thread: {costs}."]


def _changes(record: dict[str, Any]) -> list[str]:
    rows = []
    for row in record["changes"]:
        low, middle, high = row["difference_p5_p50_p95"]
        cosines = row["cosine_p5_p50"]
        rows.append([row["pair"], f"{middle:.1f} [{low:.1f}, {high:.1f}]", f"{cosines[1]:.3f} ({cosines[0]:.3f})"])
    return _table(["pair", "difference: median [5 %, 95 %]", "cosine of the embeddings: median (5 %)"], rows)


def _resolutions(record: dict[str, Any]) -> list[str]:
    rows = [
        [
            f"{row['side']} x {row['side']}",
            f"{row['encode_cpu_ms']:.1f}",
            _interval(row["cider_d"]),
            _interval(row["cider_d_ratio_to_224"]),
            f"{100 * row['text_finds_picture_in_first_10']:.1f} %",
        ]
        for row in record["resolutions"]
    ]
    head = ["encoder at", "CPU time, ms", "CIDEr-D, greedy", "ratio to 224", "text finds its picture in the first 10"]
    return _table(head, rows)


SECTIONS = {
    "circumstances": ("load_average", _circumstances),
    "profiles": ("profiles", _profiles),
    "captions": ("captions", _captions),
    "pages": ("pages", _pages),
    "budgets": ("budgets", _budgets),
    "streams": ("streams", _streams),
    "changes": ("changes", _changes),
    "resolutions": ("resolutions", _resolutions),
}
