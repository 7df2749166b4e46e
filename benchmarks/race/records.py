"""Checks a record of the race and writes it whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from race.heat_record import check_heat

PREFIX = "race-"
_NEEDED = ("benchmark", "date", "commit", "command", "cpu", "cpus_usable", "isa", "versions", "missing_peers", "part")


def check_record(record: Mapping[str, Any]) -> None:
    """Raises ValueError when something is missing or impossible: a page is made from what passes."""
    if missing := [key for key in _NEEDED if key not in record]:
        raise ValueError(f"the record lacks {', '.join(missing)}")
    name, part = record["benchmark"], record["part"]
    if not name.startswith(PREFIX):
        raise ValueError(f"the record is called `{name}`, expected `{PREFIX}...`")
    if "heats" in part:
        for heat in part["heats"]:
            check_heat(heat)
        if not part["heats"] and not record["missing_peers"]:
            raise ValueError(f"`{name}` has no heats, and no peer is missing")
    elif "processes" in part:
        for threads, processes in part["processes"].items():
            for title, found in processes.items():
                if not all(found[key] > 0 for key in ("ready_ms", "first_use_ms", "peak_mb")):
                    raise ValueError(f"`{name}`, {title} on {threads} threads: {found}")
    elif not part.get("kernels") or not part.get("programs"):
        raise ValueError(f"`{name}` has no kernels or no programs")
    json.dumps(record, allow_nan=False)  # raises ValueError for what JSON has no word for


def write_record(record: Mapping[str, Any], folder: Path) -> Path:
    """Checks and writes FOLDER/<benchmark>-<date>-<commit>.json."""
    check_record(record)
    path = folder / f"{record['benchmark']}-{record['date'][:10]}-{record['commit']}.json"
    folder.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".half-{os.getpid()}-{path.name}")
    try:
        half.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
    return path
