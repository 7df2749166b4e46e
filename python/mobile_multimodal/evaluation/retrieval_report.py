"""Writes one HTML page about retrieval: recalls, ranks, and sentences with the picture they found, failures first."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobile_multimodal.evaluation.bootstrap import Interval
from mobile_multimodal.evaluation.picture_cards import card, card_grid
from mobile_multimodal.evaluation.report_page import histogram, table, write_report_page
from mobile_multimodal.evaluation.retrieval import DEPTHS, DIRECTIONS, RetrievalEvaluation


@dataclass(frozen=True)
class ReportModel:
    """One evaluated model under the name that the page shows."""

    name: str
    evaluation: RetrievalEvaluation


def write_retrieval_report(
    path: Path,
    images: Path,
    models: Sequence[ReportModel],
    differences: dict[str, dict[int, Interval]] | None = None,
    pictures: int = 100,
) -> None:
    """Writes the page: for half of the `pictures` the worst sentences by the first model, then some of the best."""
    found = models[0].evaluation
    ranks = found.ranks["text_to_image"]
    worst = np.argsort(-ranks, kind="stable")[: min(pictures // 2, np.count_nonzero(ranks))]
    best = np.flatnonzero(ranks == 0)
    best = best[:: max(1, len(best) // max(1, pictures // 2))][: pictures // 2]
    parts = [
        _score_table(models, differences),
        "<h2>Rank of the right picture, logarithm to base 10</h2>",
        histogram(np.log10(ranks + 1.0), "sentences by rank"),
    ]
    for heading, rows in (("Worst", worst), ("Found at once", best)):
        parts += card_grid(heading, (_card(images, found, int(row)) for row in rows))
    write_report_page(
        path, "Retrieval", f"Finding {len(found.names)} pictures by {len(found.sentences)} sentences", parts
    )


def _score_table(models: Sequence[ReportModel], differences: dict[str, dict[int, Interval]] | None) -> str:
    columns = ("model", "direction", *(f"recall at {depth}" for depth in DEPTHS), "median rank")
    rows: list[list[object]] = []
    for model in models:
        for direction in DIRECTIONS:
            recalls = model.evaluation.recalls[direction]
            median = np.median(model.evaluation.ranks[direction]) + 1
            rows.append([model.name, direction.replace("_", " "), *recalls.values(), f"{median:g}"])
    for direction, by_depth in (differences or {}).items():
        rows.append(["first minus second, paired", direction.replace("_", " "), *by_depth.values(), ""])
    return table(columns, rows) + "<p>95 % bootstrap intervals over queries.</p>"


def _card(images: Path, found: RetrievalEvaluation, row: int) -> str:
    owner, best = int(found.owners[row]), int(found.similarity[row].argmax())
    rank = int(found.ranks["text_to_image"][row]) + 1
    lines = [f"<b>{html.escape(found.sentences[row])}</b>", f"its picture came {rank}. of {len(found.names)}"]
    if best != owner:
        lines.append("shown: the picture that came first")
    return card(images / found.names[best], lines, found.names[best], [f"right: {found.names[owner]}"])
