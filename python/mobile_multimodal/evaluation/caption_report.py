"""Writes one HTML page about a caption evaluation: scores, their spread, and the pictures, failures first."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_multimodal.evaluation.caption import CaptionEvaluation
from mobile_multimodal.evaluation.caption_metrics import Interval
from mobile_multimodal.images import load_image

THUMBNAIL = 192  # pixels; 200 of them keep the page below 3 MB

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #8886 }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.2rem }
figure { margin: 0 } figure img { width: 100%; border-radius: 4px } figcaption b { display: block }
details { font-size: .9em; opacity: .8 } svg { width: 100%; max-width: 40rem; height: auto }
"""


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
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Captions</title>',
        f"<style>{_STYLE}</style></head><body><h1>Captions of {len(names)} pictures</h1>",
        _score_table(models, ratio),
        "<h2>CIDEr-D by picture</h2>",
        _histogram(scores),
    ]
    for heading, rows in (("Worst", worst), ("Best", best)):
        if len(rows):
            cards = (_card(images / names[row], names[row], references[names[row]], models, int(row)) for row in rows)
            parts += [f"<h2>{heading}</h2><main>", *cards, "</main>"]
    parts.append("</body></html>")
    partial = path.with_name(path.name + ".partial")
    partial.write_text("\n".join(parts), encoding="utf-8")
    os.replace(partial, path)


def _score_table(models: Sequence[ReportModel], ratio: Interval | None) -> str:
    rows = []
    for model in models:
        scores = model.evaluation.scores
        cells = "".join(f"<td>{value}</td>" for value in (scores.cider_d, scores.bleu_4, scores.rouge_l))
        rows.append(f"<tr><td>{html.escape(model.name)}</td>{cells}</tr>")
    table = "<table><tr><th>model</th><th>CIDEr-D</th><th>BLEU-4</th><th>ROUGE-L</th></tr>" + "".join(rows) + "</table>"
    note = "<p>95 % bootstrap intervals over pictures.</p>"
    return table + note + (f"<p>CIDEr-D, first / second, paired: {ratio}</p>" if ratio else "")


def _histogram(scores: NDArray[np.float64], bins: int = 24) -> str:
    """Bars of how many pictures reach a score, as SVG: the page needs nothing else."""
    counts, edges = np.histogram(scores, bins=bins, range=(0.0, max(1.0, float(scores.max()))))
    width, height = 480, 140
    bar = width / bins
    top = max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{i * bar + 1:.1f}" y="{height - height * count / top:.1f}" width="{bar - 2:.1f}" '
        f'height="{height * count / top:.1f}" fill="#4878b0"><title>{edges[i]:.2f} to {edges[i + 1]:.2f}: {count}'
        "</title></rect>"
        for i, count in enumerate(counts)
    )
    axis = "".join(
        f'<text x="{fraction * width:.0f}" y="{height + 16}" font-size="12" fill="currentColor" '
        f'text-anchor="{anchor}">{fraction * edges[-1]:.1f}</text>'
        for fraction, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    )
    return f'<svg viewBox="0 0 {width} {height + 20}" role="img" aria-label="pictures by score">{bars}{axis}</svg>'


def _card(path: Path, name: str, references: Sequence[str], models: Sequence[ReportModel], row: int) -> str:
    lines = []
    for model in models:
        evaluation = model.evaluation
        score = evaluation.scores.cider_d_per_picture[row]
        lines.append(f"<b>{html.escape(evaluation.captions[name])}</b> {score:.2f} {html.escape(model.name)}")
    people = "".join(f"<li>{html.escape(text)}</li>" for text in references)
    return (
        f'<figure><img src="data:image/jpeg;base64,{_thumbnail(path)}" alt="{html.escape(name)}" loading="lazy">'
        f"<figcaption>{'<br>'.join(lines)}<details><summary>{html.escape(name)}</summary><ul>{people}</ul></details>"
        "</figcaption></figure>"
    )


def _thumbnail(path: Path) -> str:
    picture = Image.fromarray(load_image(path))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=70)
    return base64.b64encode(content.getvalue()).decode("ascii")
