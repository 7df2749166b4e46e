"""Writes benchmarks/results/README.md from the newest result of each benchmark: `python benchmarks/results_page.py`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BENCHMARKS = ("caption", "batches", "ocr", "serving")  # each folder has a results_section.py with section_of(record)


def newest_record(benchmark: str) -> dict[str, Any] | None:
    """The record of the latest date; none before the first run."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in (HERE / "results").glob(f"{benchmark}-*.json")]
    return max(records, key=lambda record: record["date"], default=None)


def section(benchmark: str) -> str:
    """The section about a benchmark; empty without a record."""
    record = newest_record(benchmark)
    specification = importlib.util.spec_from_file_location(benchmark, HERE / benchmark / "results_section.py")
    if record is None or specification is None or specification.loader is None:
        return ""
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    text: str = module.section_of(record)
    return text


def main() -> None:
    """Renders all sections."""
    sections = [section(benchmark) for benchmark in BENCHMARKS]
    (HERE / "results/README.md").write_text("\n".join(text for text in sections if text), encoding="utf-8")


if __name__ == "__main__":
    main()
