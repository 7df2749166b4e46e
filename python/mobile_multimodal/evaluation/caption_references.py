"""Reads the captions of people from a data folder."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from mobile_multimodal.errors import NotFoundError


def read_captions(folder: Path, splits: Sequence[str]) -> dict[str, list[str]]:
    """Captions by picture, from `captions_{split}.csv` (columns image, caption) of the folder."""
    captions: dict[str, list[str]] = {}
    for split in splits:
        path = folder / f"captions_{split}.csv"
        if not path.is_file():
            raise NotFoundError(f"{path} is not there", hint="pass the folder of the caption data set with --data")
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                captions.setdefault(row["image"], []).append(row["caption"])
    return captions
