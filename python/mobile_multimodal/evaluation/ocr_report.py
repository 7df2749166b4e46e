"""Writes one HTML page about an evaluation of reading: scores, their spread, and the pages, failures first."""

from __future__ import annotations

import difflib
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mobile_multimodal.evaluation.bootstrap import Interval
from mobile_multimodal.evaluation.ocr import OcrEvaluation
from mobile_multimodal.evaluation.ocr_metrics import METRICS, OcrScores, comparable_text
from mobile_multimodal.evaluation.quadrilaterals import match_boxes
from mobile_multimodal.evaluation.report_page import histogram, picture_element, table, write_report_page
from mobile_multimodal.images import load_image

LONGEST_SIDE = 720  # pixels: text stays legible, and 100 pages take about 8 MB
_MATCHED, _SPURIOUS, _MISSED = (40, 150, 60), (230, 130, 0), (220, 30, 60)


def write_ocr_report(
    path: Path,
    models: Sequence[tuple[str, OcrEvaluation]],
    differences: Mapping[str, Interval] | None = None,
    pictures: int = 100,
) -> None:
    """Writes the page in one piece; it holds the `pictures` pages with the highest error rates, worst first.

    models: name and evaluation, the first of them shown page by page; differences: of the first two, by metric.
    """
    evaluation = models[0][1]
    rates = np.array([count.edits / max(count.characters, 1) for count in evaluation.counts])
    order = np.argsort(-rates, kind="stable")[:pictures]
    parts = [_score_table("model", [(name, other.scores) for name, other in models])]
    parts.append(
        "<p>95 % bootstrap intervals over pictures. Boxes match from an intersection over union of 0.5 on.</p>"
    )
    if differences:
        rows = [(name, interval.percent()) for name, interval in differences.items()]
        parts += ["<h2>First minus second, paired</h2>", table(["metric", "difference"], rows)]
    parts += ["<h2>By language</h2>", _score_table("language", list(evaluation.by_language.items()))]
    parts += ["<h2>By kind</h2>", _score_table("kind", list(evaluation.by_kind.items()))]
    parts += ["<h2>Character error rate by page</h2>", histogram(rates, "pages by character error rate")]
    parts.append("<h2>Pages, worst first</h2>")
    parts.append("<p>Outlines: green found, orange found where no line is, red missed. "
                 "Text: <del>stands there</del>, <ins>was read</ins>.</p>")  # fmt: skip
    parts += ['<main class="wide">', *(_card(evaluation, int(row), float(rates[row])) for row in order), "</main>"]
    write_report_page(path, "Reading text", f"Text of {len(evaluation.pages)} pages", parts)


def _score_table(head: str, scores: Sequence[tuple[str, OcrScores]]) -> str:
    rows = [[name, each.pictures, *(getattr(each, metric).percent() for metric in METRICS)] for name, each in scores]
    return table([head, "pages", *(metric.replace("_", " ") for metric in METRICS)], rows)


def _card(evaluation: OcrEvaluation, row: int, rate: float) -> str:
    page, read = evaluation.pages[row], evaluation.readings[row]
    picture = Image.fromarray(load_image(page.picture)).convert("RGB")
    pairs = match_boxes([line.box for line in read], [line.box for line in page.lines])
    found, expected = {i for i, _ in pairs}, {j for _, j in pairs}
    pen = ImageDraw.Draw(picture)
    width = max(1, round(max(picture.size) / 500))
    boxes = [(line.box, _MATCHED if i in found else _SPURIOUS) for i, line in enumerate(read)]
    boxes += [(line.box, _MISSED) for j, line in enumerate(page.lines) if j not in expected]
    for box, color in boxes:
        pen.line([*box, box[0]], fill=color, width=width, joint="curve")
    texts = [comparable_text("\n".join(line.text for line in lines)) for lines in (page.lines, read)]
    return (
        f"<figure>{picture_element(picture, page.picture.name, LONGEST_SIDE)}<figcaption><b>{100 * rate:.1f} % "
        f"{html.escape(page.picture.name)} ({html.escape(page.kind)}, {html.escape(page.language)})</b>"
        f"<pre>{_changes(*texts)}</pre></figcaption></figure>"
    )


def _changes(expected: str, read: str) -> str:
    """The expected text with what is missing struck out and what was read instead set in."""
    parts = []
    for what, a, b, c, d in difflib.SequenceMatcher(None, expected, read, autojunk=False).get_opcodes():
        if what == "equal":
            parts.append(html.escape(expected[a:b]))
            continue
        if b > a:
            parts.append(f"<del>{html.escape(expected[a:b])}</del>")
        if d > c:
            parts.append(f"<ins>{html.escape(read[c:d])}</ins>")
    return "".join(parts)
