"""Reads pages with known text from a data folder: pictures, and where each of their lines stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mobile_multimodal.errors import InvalidInputError, NotFoundError
from mobile_multimodal.tasks.ocr import Corner

Box = tuple[Corner, Corner, Corner, Corner]
PAGES_FILE = "pages.jsonl"


@dataclass(frozen=True)
class PlacedText:
    """A line: its text, and its corners (x, y) in pixels, clockwise from the upper left of the line as it is read."""

    text: str
    box: Box


@dataclass(frozen=True)
class OcrPage:
    """A picture, its lines in reading order, and what it is sorted under in a report."""

    picture: Path
    language: str
    kind: str
    lines: tuple[PlacedText, ...]


class OcrDataSet(Protocol):
    """What a data set must do to be evaluated on; `PageFolder` is one."""

    def pages(self) -> Sequence[OcrPage]:
        """The pages, in an order that stays the same."""


class PageFolder:
    """A folder with `pages.jsonl`: one object a line with picture (a path in the folder), language, kind, lines.

    lines: a list of {"text": ..., "box": [[x, y], [x, y], [x, y], [x, y]]} in reading order.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not (folder / PAGES_FILE).is_file():
            raise NotFoundError(
                f"{folder / PAGES_FILE} is not there", hint="pass the folder of a data set of pages with --data"
            )

    def pages(self) -> list[OcrPage]:
        pages = []
        rows = (self._folder / PAGES_FILE).read_text(encoding="utf-8").split("\n")
        for number, row in enumerate(rows, start=1):
            if row.strip():
                pages.append(self._page(row, number))
        return pages

    def _page(self, row: str, number: int) -> OcrPage:
        try:
            entry = json.loads(row)
            lines = tuple(PlacedText(str(line["text"]), box_from(line["box"])) for line in entry["lines"])
            return OcrPage(self._folder / entry["picture"], str(entry["language"]), str(entry["kind"]), lines)
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(
                f"line {number} of {self._folder / PAGES_FILE} is not a page: {type(error).__name__} {error}",
                hint="expected an object with picture, language, kind, lines [{text, box of 4 corners}]",
            ) from error


def box_from(corners: Any) -> Box:
    """Four corners from lists of numbers; ValueError or TypeError when they are not."""
    a, b, c, d = ((float(x), float(y)) for x, y in corners)
    return (a, b, c, d)
