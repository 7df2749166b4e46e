"""Checks the metrics of reading on cases counted by hand, and the whole of `mobile-mm evaluate ocr` on drawn pages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

pytest.importorskip("rapidfuzz", reason="the extra `train` is not installed")

from mobile_multimodal.cli.main import main
from mobile_multimodal.errors import InvalidInputError, NotFoundError
from mobile_multimodal.evaluation.bootstrap import share_difference_interval, share_interval
from mobile_multimodal.evaluation.ocr import score_readings
from mobile_multimodal.evaluation.ocr_metrics import (
    PageCounts,
    comparable_text,
    compare_scores,
    count_page,
    score_pages,
)
from mobile_multimodal.evaluation.ocr_pages import Box, OcrPage, PageFolder, PlacedText
from mobile_multimodal.evaluation.quadrilaterals import area, intersection_over_union, match_boxes
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM

ROOT = Path(__file__).resolve().parents[2]
CER_MOST, F1_LEAST = 0.06, 0.93


def box(left: float, top: float, right: float, bottom: float) -> Box:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


@pytest.mark.parametrize(
    ("text", "compared"),
    [
        ("two  words\nof a line ", "two words of a line"),
        ("这是 第 4.2 条 。", "这是第4.2条。"),
        ("价格，\n含税", "价格,含税"),
        ("ﬁle 12 % … é", "file 12 % ... é"),
        ("", ""),
    ],
)
def test_texts_are_compared_without_what_readers_are_free_in(text: str, compared: str) -> None:
    assert comparable_text(text) == compared


def test_intersection_over_union_of_known_shapes() -> None:
    unit = box(0, 0, 1, 1)
    assert area(unit) == 1
    assert intersection_over_union(unit, unit) == pytest.approx(1)
    assert intersection_over_union(unit, unit[::-1]) == pytest.approx(1)  # the direction does not matter
    assert intersection_over_union(unit, box(0.5, 0, 1.5, 1)) == pytest.approx(1 / 3)
    assert intersection_over_union(unit, box(2, 0, 3, 1)) == 0
    assert intersection_over_union(unit, box(1, 0, 1, 1)) == 0  # no area
    # A square of side 1 and the same turned by 45 degrees share a regular octagon: 2 (sqrt(2) - 1).
    half = 2**-0.5
    diamond = ((0.5, 0.5 - half), (0.5 + half, 0.5), (0.5, 0.5 + half), (0.5 - half, 0.5))
    common = 2 * (2**0.5 - 1)
    assert intersection_over_union(unit, diamond) == pytest.approx(common / (2 - common))


def test_boxes_match_once_and_the_best_first() -> None:
    expected = [box(0, 0, 100, 10), box(0, 20, 100, 30)]
    found = [box(0, 1, 100, 11), box(0, 0, 100, 10), box(0, 20, 49, 30), box(0, 20, 60, 30)]
    assert match_boxes(found, expected) == [(1, 0), (3, 1)]  # 0.49 of a line is none of it


def test_a_page_counted_by_hand() -> None:
    reference = [PlacedText("No. 4711", box(0, 0, 80, 10)), PlacedText("total", box(0, 20, 50, 30))]
    read = [
        PlacedText("total", box(0, 20, 50, 30)),
        PlacedText("No.4711", box(0, 0, 80, 10)),
        PlacedText("x", box(0, 50, 10, 60)),
    ]
    counts = count_page(read, reference)
    # "total No.4711 x" for "No. 4711 total": 14 characters; line by line one space of 13 characters is missing.
    assert counts == PageCounts(
        edits=counts.edits, characters=14, line_edits=1, line_characters=13, found=3, expected=2, matched=2, exact=1
    )
    assert counts.edits > 10  # the order counts on the whole page
    scores = score_pages([counts])
    assert scores.precision.value == pytest.approx(2 / 3)
    assert scores.recall.value == 1
    assert scores.f1.value == pytest.approx(4 / 5)
    assert scores.line_cer.value == pytest.approx(1 / 13)
    assert scores.exact_lines.value == 0.5
    nothing = score_pages([count_page([], reference)])
    assert (nothing.cer.value, nothing.f1.value, nothing.precision.value) == (1, 0, 0)


def test_pages_weigh_what_they_hold() -> None:
    long_page = PageCounts(0, 900, 0, 0, 0, 1, 0, 0)
    short_page = PageCounts(100, 100, 0, 0, 0, 1, 0, 0)
    scores = score_pages([long_page, short_page])
    assert scores.cer.value == pytest.approx(0.1)
    assert (scores.cer.low, scores.cer.high) == (0, 1)  # a resample may hold either page alone
    with pytest.raises(InvalidInputError, match="no pages"):
        score_pages([])


def test_paired_differences_are_narrower_than_the_scores() -> None:
    generator = np.random.default_rng(1)
    characters = np.full(200, 100.0)
    edits = generator.integers(0, 20, 200).astype(np.float64)
    worse = edits + (np.arange(200) < 20)  # one more on every tenth page: 0.1 points
    difference = share_difference_interval((worse, characters), (edits, characters))
    alone = share_interval(edits, characters)
    assert difference.value == pytest.approx(0.001)
    assert 0 < difference.low < difference.high < 0.002
    assert difference.high - difference.low < (alone.high - alone.low) / 3


def test_wrong_data_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"pages\.jsonl is not there"):
        PageFolder(tmp_path)
    (tmp_path / "pages.jsonl").write_text('\n{"picture": "a.png", "language": "en", "kind": "x"}\n')
    with pytest.raises(InvalidInputError, match=r"line 2 of .*pages\.jsonl is not a page: KeyError 'lines'"):
        PageFolder(tmp_path).pages()
    page = OcrPage(tmp_path / "a.png", "en", "x", ())
    with pytest.raises(InvalidInputError, match="2 readings for 1 pages"):
        score_readings([page], [[], []])


def test_scores_are_split_by_language_and_kind(tmp_path: Path) -> None:
    line = PlacedText("abcd", box(0, 0, 40, 10))
    pages = [OcrPage(tmp_path / "a.png", "en", "page", (line,)), OcrPage(tmp_path / "b.png", "de", "page", (line,))]
    result = score_readings(pages, [[line], [PlacedText("abce", line.box)]])
    assert {name: scores.cer.value for name, scores in result.by_language.items()} == {"de": 0.25, "en": 0}
    assert result.by_kind["page"].cer.value == 0.125
    difference = compare_scores(result.scores, result.scores)
    assert difference["cer"].value == difference["cer"].low == difference["cer"].high == 0


@pytest.fixture(scope="module")
def drawn_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 pages in three languages, drawn with the fonts that matplotlib brings."""
    matplotlib = pytest.importorskip("matplotlib")
    fonts = Path(matplotlib.get_data_path()) / "fonts/ttf"
    folder = tmp_path_factory.mktemp("pages")
    draw = [sys.executable, str(ROOT / "benchmarks/ocr/draw_pages.py"), str(folder), "--fonts", str(fonts)]
    subprocess.run([*draw, "--languages", "en", "de", "fr", "--each", "1"], check=True, capture_output=True)
    return folder


def test_drawn_pages_are_read_within_a_stated_bound(
    drawn_pages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mobile_multimodal.native")
    page, readings = tmp_path / "page.html", tmp_path / "readings.jsonl"
    command = ["evaluate", "ocr", "--data", str(drawn_pages), "--html", str(page), "--readings", str(readings)]
    assert main([*command, "--threads", "1", "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert result["pictures"] == len(readings.read_text(encoding="utf-8").splitlines()) == 21
    # Measured on 224 such pages: see docs/ocr.md. Three times that leaves room for the draw of 21.
    assert result["cer"]["value"] < CER_MOST
    assert result["line_cer"]["value"] < CER_MOST
    assert result["f1"]["value"] > F1_LEAST
    assert set(result["by_language"]) == {"en", "de", "fr"}
    html = page.read_text(encoding="utf-8")
    assert html.count("<figure>") == 21
    assert html.index("Pages, worst first") < html.index("<figure>")


def test_a_model_beside_itself_differs_by_nothing(drawn_pages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mobile_multimodal.native")
    command = ["evaluate", "ocr", "--data", str(drawn_pages), "--limit", "3", "--threads", "1"]
    assert main([*command, "--compare", "mobile-mm-llm-int2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    paired = lines[lines.index("first minus second, paired") + 1 :]
    assert len(paired) == 6
    assert all("0.00 % [0.00, 0.00]" in line for line in paired)


def test_a_line_cut_out_closely_is_found() -> None:
    pytest.importorskip("mobile_multimodal.native")
    text, font = "The ferry leaves the harbour at seven.", ImageFont.load_default(24)
    left, top, right, bottom = (round(side) for side in font.getbbox(text))
    picture = Image.new("RGB", (right - left + 2, bottom - top + 2), (236, 232, 220))
    ImageDraw.Draw(picture).text((1 - left, 1 - top), text, font=font, fill=(20, 20, 40))
    with MobileMultiModalLLM.from_pretrained("mobile-mm-llm-int2", threads=1) as model:
        lines = model.extract_text(picture).lines
    assert [comparable_text(line.text) for line in lines] == [text]
    whole = box(0, 0, *picture.size)
    assert intersection_over_union(lines[0].box, whole) > 0.8  # in pixels of the picture, not of its margin
