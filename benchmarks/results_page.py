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


def newest_record(benchmark: str) -> dict[str, Any] | None:
    """The record of the latest date; none before the first run."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in (HERE / "results").glob(f"{benchmark}-*.json")]
    return max(records, key=lambda record: record["date"], default=None)


def section(benchmark: str) -> str:
    """The section about a benchmark; empty without a record."""
    record = newest_record(benchmark)
    place = HERE / "race/page_section.py" if benchmark in RACE else HERE / benchmark / "results_section.py"
    specification = importlib.util.spec_from_file_location(benchmark, place)
    if record is None or specification is None or specification.loader is None:
        return ""
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    text: str = module.section_of(record)
    return text


def page() -> str:
    """All sections that have a record."""
    sections = [section(benchmark) for benchmark in BENCHMARKS]
    return "\n".join(text.rstrip("\n") + "\n" for text in sections if text)


def main() -> None:
    """Renders the page and draws the plots of the race."""
    from race.plots import draw

    for benchmark in RACE:
        record = newest_record(benchmark)
        if record is not None and record["part"].get("heats"):
            draw(record)
    (HERE / "results/README.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
