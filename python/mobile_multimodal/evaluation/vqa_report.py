"""Writes one HTML page about answers to questions: scores by kind, reliability, and pictures, failures first."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobile_multimodal.evaluation.bootstrap import Interval
from mobile_multimodal.evaluation.calibration import reliability_bins
from mobile_multimodal.evaluation.picture_cards import card, card_grid
from mobile_multimodal.evaluation.question_sets import UNANSWERABLE
from mobile_multimodal.evaluation.report_page import table, write_report_page
from mobile_multimodal.evaluation.vqa import GivenAnswer, VqaEvaluation, correctness

_COLOURS = ("#4878b0", "#c86030")


@dataclass(frozen=True)
class ReportModel:
    """One evaluated model under the name that the page shows."""

    name: str
    evaluation: VqaEvaluation


def write_vqa_report(
    path: Path,
    images: Path,
    models: Sequence[ReportModel],
    differences: dict[str, Interval] | None = None,
    pictures: int = 100,
) -> None:
    """Writes the page; it holds `pictures` pictures: wrong answers of the first model, surest first, then right ones.

    images: the folder of the pictures; models: the first, and the one it is compared with; differences: accuracy of
    the first minus that of the second, by kind.
    """
    answers = models[0].evaluation.answers
    places = sorted(range(len(answers)), key=lambda place: -answers[place].confidence)
    counted = [place for place in places if answers[place].question.answer != UNANSWERABLE]
    wrong = [place for place in counted if not answers[place].is_correct][: pictures // 2]
    fooled = [place for place in places if answers[place].question.answer == UNANSWERABLE][: pictures // 10]
    right = [place for place in counted if answers[place].is_correct]
    # Spread over all confidences: the surest right answers alone would be a hundred times "yes".
    right = right[:: max(1, len(right) // max(1, pictures - len(wrong) - len(fooled)))]
    right = right[: pictures - len(wrong) - len(fooled)]
    parts = [_score_table(models, differences), "<h2>Reliability</h2>", reliability_diagram(models)]
    for heading, chosen in (("Wrong, surest first", wrong), ("Answered without an answer", fooled), ("Right", right)):
        parts += card_grid(heading, (_card(images, models, place) for place in chosen))
    write_report_page(path, "Answers", f"Answers to {len(answers)} questions", parts)


def reliability_diagram(models: Sequence[ReportModel]) -> str:
    """Accuracy over confidence in 15 bins as SVG; on the diagonal, an answer is as often right as it claims."""
    side = 300
    dots = []
    for colour, model in zip(_COLOURS, models, strict=False):
        answers = [a for a in model.evaluation.answers if a.question.answer != UNANSWERABLE]
        confidences = np.array([answer.confidence for answer in answers])
        for part in reliability_bins(confidences, correctness(answers)):
            radius = 2 + 9 * (part.count / len(answers)) ** 0.5
            dots.append(
                f'<circle cx="{part.confidence * side:.1f}" cy="{side - part.accuracy * side:.1f}" r="{radius:.1f}" '
                f'fill="{colour}" fill-opacity=".8"><title>{html.escape(model.name)}: confidence '
                f"{part.confidence:.2f}, right {part.accuracy:.2f}, {part.count} answers</title></circle>"
            )
    ticks = "".join(
        f'<text x="{value * side:.0f}" y="{side + 18}" font-size="12" fill="currentColor" text-anchor="middle">'
        f'{value:.1f}</text><text x="-8" y="{side - value * side + 4:.0f}" font-size="12" fill="currentColor" '
        f'text-anchor="end">{value:.1f}</text>'
        for value in (0.0, 0.5, 1.0)
    )
    return (
        f'<svg viewBox="-40 -14 {side + 60} {side + 54}" style="max-width: 24rem" role="img" '
        'aria-label="accuracy by confidence">'
        f'<rect width="{side}" height="{side}" fill="none" stroke="#8886"/>'
        f'<line x1="0" y1="{side}" x2="{side}" y2="0" stroke="#888" stroke-dasharray="4"/>{"".join(dots)}{ticks}'
        f'<text x="{side / 2:.0f}" y="{side + 36}" font-size="12" fill="currentColor" text-anchor="middle">'
        "confidence (across), share of right answers (up)</text></svg>"
    )


def _score_table(models: Sequence[ReportModel], differences: dict[str, Interval] | None) -> str:
    guessers = list(models[0].evaluation.kinds[0].baselines) if models[0].evaluation.kinds else []
    columns = ["kind", "questions"]
    columns += [column for model in models for column in (f"accuracy, {model.name}", "calibration error")]
    columns += guessers + (["difference, paired"] if differences else [])
    others = [{scores.kind: scores for scores in model.evaluation.kinds} for model in models]
    rows = []
    for scores in models[0].evaluation.kinds:
        row: list[object] = [scores.kind, scores.questions]
        for by_kind in others:
            row += [by_kind[scores.kind].accuracy, f"{by_kind[scores.kind].calibration_error:.3f}"]
        row += [scores.baselines[name] for name in guessers]
        rows.append(row + ([differences[scores.kind]] if differences else []))
    notes = ["95 % bootstrap intervals over questions; baselines see no picture."]
    for model in models:
        without = model.evaluation.unanswerable
        if without is not None:
            notes.append(
                f"{model.name}: {without.questions} questions without an answer, mean confidence "
                f"{without.mean_confidence:.3f}, below that of an answerable one "
                f"{100 * without.ranking_accuracy:.1f} % of the time."
            )
    return table(columns, rows) + "".join(f"<p>{html.escape(note)}</p>" for note in notes)


def _card(images: Path, models: Sequence[ReportModel], place: int) -> str:
    question = models[0].evaluation.answers[place].question
    lines = [html.escape(question.question)]
    lines += [_line(model.evaluation.answers[place], model.name if len(models) > 1 else "") for model in models]
    lines.append(f"expected: {html.escape(question.answer)}")
    return card(images / question.image, lines, f"{question.kind}, {question.image}", question.options)


def _line(answer: GivenAnswer, name: str) -> str:
    mark = "right" if answer.is_correct else "wrong"
    return f"<b>{html.escape(answer.text)}</b> {answer.confidence:.2f}, {mark} {html.escape(name)}"
