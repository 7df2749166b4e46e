"""Scores read pages: character error rate, and detection of lines, with bootstrap intervals over pictures.

Character error rate (CER) = edits / characters of the reference (Levenshtein, insertions, deletions and substitutions
cost 1), as sums over pictures. Texts are compared by `comparable_text`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.evaluation.bootstrap import Interval, share_difference_interval, share_interval
from mobile_multimodal.evaluation.ocr_pages import PlacedText
from mobile_multimodal.evaluation.quadrilaterals import match_boxes

# Han, kana, their punctuation and full-width forms: no space is written between them, and readers differ in those
# that they put there.
_EAST_ASIAN = "\u2e80-\u2fdf\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_SPACE_BESIDE_EAST_ASIAN = re.compile(rf"(?<=[{_EAST_ASIAN}])\s+|\s+(?=[{_EAST_ASIAN}])")


def comparable_text(text: str) -> str:
    """Text as it is compared: single spaces, none beside Chinese or Japanese, compatibility forms as one (NFKC)."""
    text = _SPACE_BESIDE_EAST_ASIAN.sub("", text)
    return " ".join(unicodedata.normalize("NFKC", text).split())


@dataclass(frozen=True)
class PageCounts:
    """What one page adds to the sums."""

    edits: int  # of the whole page, lines in the order in which they were read
    characters: int
    line_edits: int  # of matched lines alone
    line_characters: int
    found: int  # boxes
    expected: int
    matched: int
    exact: int  # lines matched and without an edit


def count_page(read: Sequence[PlacedText], reference: Sequence[PlacedText]) -> PageCounts:
    """Compares a page as read with what stands on it; boxes match from an intersection over union of 0.5 on."""
    whole_read, whole_reference = (comparable_text("\n".join(line.text for line in page)) for page in (read, reference))
    pairs = match_boxes([line.box for line in read], [line.box for line in reference])
    texts = [(comparable_text(read[i].text), comparable_text(reference[j].text)) for i, j in pairs]
    edits = [Levenshtein.distance(*pair) for pair in texts]
    return PageCounts(
        edits=Levenshtein.distance(whole_read, whole_reference),
        characters=len(whole_reference),
        line_edits=sum(edits),
        line_characters=sum(len(text) for _, text in texts),
        found=len(read),
        expected=len(reference),
        matched=len(pairs),
        exact=edits.count(0),
    )


@dataclass(frozen=True)
class OcrScores:
    """Metrics of one reader on `pictures` pictures; `counts` [pictures, fields of PageCounts] feeds comparisons."""

    pictures: int
    cer: Interval
    line_cer: Interval
    precision: Interval
    recall: Interval
    f1: Interval
    exact_lines: Interval
    counts: NDArray[np.float64]

    def as_dict(self) -> dict[str, object]:
        return {"pictures": self.pictures, **{name: asdict(getattr(self, name)) for name in METRICS}}


# Each metric is one sum over pictures divided by another: 2 matched / (found + expected) is F1.
METRICS = {
    "cer": (("edits",), ("characters",)),
    "line_cer": (("line_edits",), ("line_characters",)),
    "precision": (("matched",), ("found",)),
    "recall": (("matched",), ("expected",)),
    "f1": (("matched", "matched"), ("found", "expected")),
    "exact_lines": (("exact",), ("expected",)),
}
_COLUMNS = {name: column for column, name in enumerate(PageCounts.__dataclass_fields__)}


def score_pages(counts: Sequence[PageCounts], seed: int = 0) -> OcrScores:
    """The metrics of all pages."""
    if not counts:
        raise InvalidInputError("there are no pages to score", hint="pass a data set with pages")
    rows = np.array([astuple(page) for page in counts], np.float64)
    intervals = {name: share_interval(*_share(rows, name), seed) for name in METRICS}
    return OcrScores(pictures=len(rows), counts=rows, **intervals)


def compare_scores(first: OcrScores, second: OcrScores, seed: int = 0) -> dict[str, Interval]:
    """The first minus the second by metric, resampled in pairs; a metric that either lacks is left out."""
    differences = {}
    for name in METRICS:
        shares = _share(first.counts, name), _share(second.counts, name)
        if all(whole.sum() > 0 for _, whole in shares):
            differences[name] = share_difference_interval(*shares, seed)
    return differences


def _share(rows: NDArray[np.float64], metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    part, whole = (rows[:, [_COLUMNS[name] for name in names]].sum(axis=1) for names in METRICS[metric])
    return part, whole
