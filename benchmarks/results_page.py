"""Writes benchmarks/results/README.md and the race's plots from the newest records."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))
# Parts of the race share one form; each other benchmark has a results_section.py with section_of(record) in its folder.
RACE = ("race-language", "race-vision", "race-tasks", "race-memory", "race-kernels")
BENCHMARKS = (*RACE, "caption", "batches", "ocr", "serving")


def records_of(benchmark: str) -> list[dict[str, Any]]:
    """All records of a benchmark, the latest first; none before the first run."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in (HERE / "results").glob(f"{benchmark}-*.json")]
    return sorted(records, key=lambda record: record["date"], reverse=True)


def shown_records(benchmark: str) -> list[dict[str, Any]]:
    """The latest record; of the race, the latest of each instruction set: machines differ, and none hides another."""
    records = records_of(benchmark)
    if benchmark not in RACE:
        return records[:1]
    latest: dict[str, dict[str, Any]] = {}
    for record in records:
        latest.setdefault(record["isa"], record)
    return list(latest.values())


def section(benchmark: str, record: dict[str, Any]) -> str:
    """The section about one record of a benchmark."""
    place = HERE / "race/page_section.py" if benchmark in RACE else HERE / benchmark / "results_section.py"
    specification = importlib.util.spec_from_file_location(benchmark, place)
    assert specification is not None, place
    assert specification.loader is not None, place
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    text: str = module.section_of(record)
    return text


def page() -> str:
    """All sections that have a record."""
    sections = [section(benchmark, record) for benchmark in BENCHMARKS for record in shown_records(benchmark)]
    return "\n".join(text.rstrip("\n") + "\n" for text in sections)


def main() -> None:
    """Renders the page and draws the plots of the race."""
    from race.plots import draw

    for benchmark in RACE:
        for record in shown_records(benchmark):
            if record["part"].get("heats"):
                draw(record)
    (HERE / "results/README.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
