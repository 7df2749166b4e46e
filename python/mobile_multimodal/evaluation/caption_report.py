"""Writes one HTML page about a caption evaluation: scores, their spread, and the pictures, failures first."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mobile_multimodal.evaluation.bootstrap import Interval
from mobile_multimodal.evaluation.caption import CaptionEvaluation
from mobile_multimodal.evaluation.report_page import histogram, picture_element, table, write_report_page
from mobile_multimodal.images import load_image

THUMBNAIL = 192  # pixels; 200 of them keep the page below 3 MB


@dataclass(frozen=True)
class ReportModel:
    """One evaluated model under the name that the page shows."""

    name: str
    evaluation: CaptionEvaluation


def write_caption_report(
    path: Path,
    images: Path,
    references: Mapping[str, Sequence[str]],
    models: Sequence[ReportModel],
    ratio: Interval | None = None,
    pictures: int = 100,
) -> None:
    """Writes the page in one piece; it holds `pictures` pictures: the worst by the first model, then the best.

    images: the folder of the pictures; models: the first, and the one it is compared with.
    """
    scores = models[0].evaluation.scores.cider_d_per_picture
    order = np.argsort(scores, kind="stable")
    names = list(models[0].evaluation.captions)
    worst, best = order[: pictures // 2], order[::-1][: min(pictures - pictures // 2, len(order) - pictures // 2)]
    parts = [
        _score_table(models, ratio),
        "<h2>CIDEr-D by picture</h2>",
        histogram(scores, "pictures by score"),
    ]
    for heading, rows in (("Worst", worst), ("Best", best)):
        if len(rows):
            cards = (_card(images / names[row], names[row], references[names[row]], models, int(row)) for row in rows)
            parts += [f"<h2>{heading}</h2><main>", *cards, "</main>"]
    write_report_page(path, "Captions", f"Captions of {len(names)} pictures", parts)


def _score_table(models: Sequence[ReportModel], ratio: Interval | None) -> str:
    every = [(model.name, model.evaluation.scores) for model in models]
    rows = [(name, scores.cider_d, scores.bleu_4, scores.rouge_l) for name, scores in every]
    note = "<p>95 % bootstrap intervals over pictures.</p>"
    return (
        table(["model", "CIDEr-D", "BLEU-4", "ROUGE-L"], rows)
        + note
        + (f"<p>CIDEr-D, first / second, paired: {ratio}</p>" if ratio else "")
    )


def _card(path: Path, name: str, references: Sequence[str], models: Sequence[ReportModel], row: int) -> str:
    lines = []
    for model in models:
        evaluation = model.evaluation
        score = evaluation.scores.cider_d_per_picture[row]
        lines.append(f"<b>{html.escape(evaluation.captions[name])}</b> {score:.2f} {html.escape(model.name)}")
    people = "".join(f"<li>{html.escape(text)}</li>" for text in references)
    picture = picture_element(Image.fromarray(load_image(path)), name, THUMBNAIL)
    return (
        f"<figure>{picture}"
        f"<figcaption>{'<br>'.join(lines)}<details><summary>{html.escape(name)}</summary><ul>{people}</ul></details>"
        "</figcaption></figure>"
    )
