"""Scores a reader of text on the pages of a data set, as its users get it: picture file in, lines out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.evaluation.ocr_metrics import OcrScores, PageCounts, count_page, score_pages
from mobile_multimodal.evaluation.ocr_pages import OcrDataSet, OcrPage, PlacedText
from mobile_multimodal.tasks.ocr import OcrResult


class TextReader(Protocol):
    """What is evaluated: `MobileMultiModalLLM`, or anything with its method."""

    def extract_text(self, image: Path, /) -> OcrResult:
        """The lines of a picture in reading order."""


@dataclass(frozen=True)
class OcrEvaluation:
    """Pages, what was read on each, and the scores: of all, by language and by kind."""

    pages: tuple[OcrPage, ...]
    readings: tuple[tuple[PlacedText, ...], ...]
    counts: tuple[PageCounts, ...]
    scores: OcrScores
    by_language: dict[str, OcrScores]
    by_kind: dict[str, OcrScores]


def evaluate_reader(
    reader: TextReader,
    data: OcrDataSet,
    limit: int = 0,
    seed: int = 0,
    on_page: Callable[[int, int], None] | None = None,
) -> OcrEvaluation:
    """Reads every page (or the first `limit`) and scores them; `on_page` gets (done, all)."""
    pages = data.pages()[: limit or None]
    readings = []
    for done, page in enumerate(pages, start=1):
        lines = reader.extract_text(page.picture).lines
        readings.append(tuple(PlacedText(line.text, line.box) for line in lines))
        if on_page is not None:
            on_page(done, len(pages))
    return score_readings(pages, readings, seed)


def score_readings(pages: Sequence[OcrPage], readings: Sequence[Sequence[PlacedText]], seed: int = 0) -> OcrEvaluation:
    """Scores what any reader has read on these pages."""
    if len(pages) != len(readings) or not pages:
        raise InvalidInputError(f"{len(readings)} readings for {len(pages)} pages", hint="give one reading a page")
    counts = [count_page(read, page.lines) for read, page in zip(readings, pages, strict=True)]

    def scores_by(names: Sequence[str]) -> dict[str, OcrScores]:
        pairs = list(zip(names, counts, strict=True))
        return {
            name: score_pages([count for other, count in pairs if other == name], seed) for name in sorted(set(names))
        }

    return OcrEvaluation(
        pages=tuple(pages),
        readings=tuple(tuple(lines) for lines in readings),
        counts=tuple(counts),
        scores=score_pages(counts, seed),
        by_language=scores_by([page.language for page in pages]),
        by_kind=scores_by([page.kind for page in pages]),
    )
