"""Reads pictures with a small model on the real core: places, order, long lines, long pages, refusals."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_ocr_model import CHARACTERS, page, text_band, write_ocr_model

from mobile_multimodal import (
    DeadlineExceededError,
    InvalidImageError,
    InvalidInputError,
    MobileMultiModalLLM,
    ModelFormatError,
    NotFoundError,
    OcrLine,
    OcrResult,
    OcrSettings,
    OperationCancelledError,
    UnsupportedError,
)

native = pytest.importorskip("mobile_multimodal.native")

# One line at a time is what the operations of the small model allow at any width. Its maps show whole bands, not
# kernels of them, so that boxes hardly have to grow.
ONE_BY_ONE: Any = {"batch_lines": 1, "unclip_ratio": 0.1}
LINES = [(40, 30, "abc d"), (300, 30, "ee"), (60, 110, "é字a"), (30, 200, "bad cafe".replace("f", "b"))]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> MobileMultiModalLLM:
    return MobileMultiModalLLM.from_pretrained(write_ocr_model(tmp_path_factory.mktemp("ocr") / "small.gguf"))


def texts(result: OcrResult) -> list[str]:
    return [line.text for line in result.lines]


def test_lines_come_out_with_text_place_and_confidence(reader: MobileMultiModalLLM) -> None:
    result = reader.extract_text(page(320, 480, LINES), **ONE_BY_ONE)
    assert texts(result) == ["abc d", "ee", "é字a", "bad cabe"]
    assert str(result) == result.text == "abc d\nee\né字a\nbad cabe"
    assert str(result.lines[1]) == "ee"
    for line, (x, y, text) in zip(result.lines, LINES, strict=True):
        width = (2 * len(text) + 1) * 12
        expected = [(x, y), (x + width, y), (x + width, y + 40), (x, y + 40)]
        # Sides lie on the outermost centers, half a pixel inside, and grow by area * 0.1 / perimeter: up to 1.4 pixels.
        assert np.abs(np.array(line.box) - expected).max() <= 1.5
        assert len(line.character_confidences) == len(text)
        assert line.confidence == pytest.approx(np.mean(line.character_confidences), rel=1e-6)
        assert 0.5 < line.confidence <= 1
    assert result.dropped_boxes == 0
    assert set(result.timings) == {"detect", "recognize", "total"}
    record = json.loads(json.dumps(result.to_dict()))
    assert record["text"] == result.text
    assert record["lines"][0]["box"] == [list(corner) for corner in result.lines[0].box]


def test_results_are_frozen() -> None:
    line = OcrLine(text="a", box=((0, 0), (1, 0), (1, 1), (0, 1)), confidence=1.0, character_confidences=(1.0,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        line.text = "b"  # type: ignore[misc]
    assert str(OcrResult(lines=(), timings={})) == ""


def test_a_white_page_has_no_text(reader: MobileMultiModalLLM) -> None:
    for shape in [(320, 480, 3), (1, 1, 3), (3, 2000, 3), (2000, 3, 3)]:
        assert reader.extract_text(np.full(shape, 255, np.uint8), **ONE_BY_ONE).lines == ()


@pytest.mark.parametrize("degrees", [-40, -17, 5, 30])
def test_lines_at_an_angle(reader: MobileMultiModalLLM, degrees: float) -> None:
    picture = Image.new("RGB", (600, 600), "white")
    rotation = {"resample": Image.Resampling.BICUBIC, "expand": True}
    for text, top in (("abcde", 100), ("字 éb", 300)):
        band = Image.fromarray(text_band(text, 48, 14))
        mask = Image.new("L", band.size, 255).rotate(degrees, expand=True)
        picture.paste(band.rotate(degrees, **rotation), (150, top), mask)
    result = reader.extract_text(picture, **ONE_BY_ONE)
    assert texts(result) == ["abcde", "字 éb"]
    (x0, y0), (x1, y1) = result.lines[0].box[:2]
    assert np.degrees(np.arctan2(y0 - y1, x1 - x0)) == pytest.approx(degrees, abs=1)


def test_a_line_that_runs_down(reader: MobileMultiModalLLM) -> None:
    pixels = np.full((400, 300, 3), 255, np.uint8)
    band = np.rot90(text_band("abcde", 40, 12), -1)  # turned to the right: it begins at the top
    pixels[50 : 50 + band.shape[0], 100 : 100 + band.shape[1]] = band
    (line,) = reader.extract_text(pixels, **ONE_BY_ONE).lines
    assert line.text == "abcde"
    assert np.abs(np.array(line.box[0]) - (140, 50)).max() <= 2  # where its reading begins


def test_a_long_page_is_read_in_tiles(reader: MobileMultiModalLLM) -> None:
    """At 320 for the longer side the page would be 32 wide; in tiles its lines, also those on seams, come out."""
    words = ["".join(pair) for pair in itertools.product("abcde", repeat=2)][:20]
    lines = [(20 + i % 3 * 15, 20 + i * 150, word) for i, word in enumerate(words)]
    result = reader.extract_text(page(3100, 200, lines, band=50, stripe=25), max_side=320, **ONE_BY_ONE)
    assert texts(result) == words
    for line, (x, y, _) in zip(result.lines, lines, strict=True):
        assert np.abs(np.array(line.box[0]) - (x, y)).max() <= 4  # a position of the map is 1.25 pixels


def test_a_long_line_is_not_squeezed(reader: MobileMultiModalLLM) -> None:
    """135 times as long as high: found over tiles, read in pieces, and whole."""
    generator = np.random.default_rng(0)
    text = "".join(generator.choice(CHARACTERS[:7], 270))
    pixels = page(120, 541 * 10 + 60, [(30, 40, text)], stripe=10)
    (line,) = reader.extract_text(pixels, **ONE_BY_ONE).lines
    assert line.text == text
    assert len(line.character_confidences) == 270


def test_columns_are_read_one_after_the_other(reader: MobileMultiModalLLM) -> None:
    left, right = ["abcde", "bcdea", "cdeab", "deabc"], ["aaaaa", "bbbbb", "ccccc", "ddddd"]
    lines = [(20, 20 + 50 * i, text) for i, text in enumerate(left)]
    lines += [(420, 35 + 50 * i, text) for i, text in enumerate(right)]
    assert texts(reader.extract_text(page(300, 800, lines, band=30, stripe=30), **ONE_BY_ONE)) == left + right


def test_batches_give_what_single_lines_give(tmp_path: Path) -> None:
    path = write_ocr_model(tmp_path / "fixed.gguf", columns=320)
    words = ["".join(pair) for pair in itertools.product("abé", repeat=3)][:23]
    pixels = page(900, 500, [(20 + i % 2 * 200, 20 + i // 2 * 70, word) for i, word in enumerate(words)])
    results = []
    for threads, batch_lines in ((1, 1), (1, 5), (2, 8), (2, 64)):
        with MobileMultiModalLLM.from_pretrained(path, threads=threads) as model:
            results.append(model.extract_text(pixels, batch_lines=batch_lines, unclip_ratio=0.1))
    assert texts(results[0]) == words
    for result in results[1:]:
        assert result == results[0]


def test_settings_choose_boxes_and_lines(reader: MobileMultiModalLLM) -> None:
    pixels = page(320, 480, LINES)
    result = reader.extract_text(pixels, max_boxes=1, **ONE_BY_ONE)
    assert (len(result.lines), result.dropped_boxes) == (1, 3)
    sure = reader.extract_text(pixels, min_confidence=1.0, **ONE_BY_ONE)
    assert len(sure.lines) < 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_side": 31}, "setting max_side is 31, expected an integer from 32 to 4096"),
        ({"max_side": 4097}, "setting max_side is 4097"),
        ({"threshold": 0}, "setting threshold is 0, expected a number from 0.01 to 0.99"),
        ({"box_threshold": float("nan")}, "setting box_threshold is nan"),
        ({"unclip_ratio": -1}, "setting unclip_ratio is -1"),
        ({"max_boxes": 0}, "setting max_boxes is 0"),
        ({"min_confidence": 2}, "setting min_confidence is 2"),
        ({"batch_lines": 65}, "setting batch_lines is 65"),
        ({"deadline_seconds": -1}, "setting deadline_seconds is -1"),
        ({"max_sides": 5}, "unknown setting 'max_sides'\nhint: did you mean 'max_side'"),
    ],
)
def test_wrong_settings(reader: MobileMultiModalLLM, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        reader.extract_text(page(64, 64, []), **options)
    assert str(caught.value).startswith(message)


def test_the_core_checks_settings_itself(reader: MobileMultiModalLLM, tmp_path: Path) -> None:
    session = native.Session(native.Engine(str(write_ocr_model(tmp_path / "small.gguf"))), threads=1)
    pixels = page(64, 64, [])
    for options in ({"max_side": 5000}, {"threshold": 1.0}, {"batch_lines": 0}, {"min_confidence": float("nan")}):
        with pytest.raises(InvalidInputError, match=next(iter(options))):
            session.read_text(pixels, **options)
    core_defaults = {field.name: field.default for field in dataclasses.fields(OcrSettings)}
    assert session.read_text(pixels)["lines"] == session.read_text(pixels, **core_defaults)["lines"] == []
    # The defaults of the two layers are one set of values.
    for name, value in core_defaults.items():
        signature = re.search(rf"\b{name}: \w+ = ([0-9.]+)", str(session.read_text.__doc__))
        assert signature is not None, name
        assert float(signature[1]) == pytest.approx(value, rel=1e-6)  # the core holds floats of 32 bits


def test_deadline_and_cancelling(reader: MobileMultiModalLLM) -> None:
    pixels = page(320, 480, LINES)
    with pytest.raises(DeadlineExceededError):
        reader.extract_text(pixels, deadline_seconds=1e-9, **ONE_BY_ONE)
    seen: list[tuple[int, int]] = []

    def stop_after_two(done: int, total: int) -> bool:
        seen.append((done, total))
        return done < 2

    with pytest.raises(OperationCancelledError):
        reader.extract_text(pixels, on_progress=stop_after_two, **ONE_BY_ONE)
    assert seen == [(1, 4), (2, 4)]

    def fail(done: int, total: int) -> bool:
        raise RuntimeError("from the callback")

    with pytest.raises(RuntimeError, match="from the callback"):
        reader.extract_text(pixels, on_progress=fail, **ONE_BY_ONE)
    # None goes on, and an old deadline does not reach into the next call.
    assert len(reader.extract_text(pixels, on_progress=lambda done, total: None, **ONE_BY_ONE).lines) == 4


def test_a_file_without_the_programs_says_which(model: MobileMultiModalLLM, tmp_path: Path) -> None:
    hint = "hint: load a model file with the programs detect_text and recognize_text"
    with pytest.raises(UnsupportedError) as caught:
        model.extract_text("missing.jpg")
    assert str(caught.value) == (
        "model file '/models/stand-in.gguf' cannot read text: it has no program detect_text and no recognize_text\n"
        + hint
    )
    for present, missing in itertools.permutations(["detect_text", "recognize_text"]):
        path = write_ocr_model(tmp_path / f"{present}.gguf", programs=[present])
        with pytest.raises(UnsupportedError, match=f"it has no program {missing}\n{hint}"):
            MobileMultiModalLLM.from_pretrained(path).extract_text(page(64, 64, []))
        session = native.Session(native.Engine(str(path)), threads=1)
        with pytest.raises(NotFoundError, match=f"program `{missing}` is not in it\n{hint}"):
            session.read_text(page(64, 64, []))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"characters": CHARACTERS[:-1]}, r"expected \[lines, steps, 8\]: the blank and each of `mm.ocr.characters`"),
        ({"characters": ()}, "`mm.ocr.characters` is not in the model file"),
    ],
)
def test_a_wrong_table_is_the_file_s_fault(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    model = MobileMultiModalLLM.from_pretrained(write_ocr_model(tmp_path / "wrong.gguf", **change))
    with pytest.raises(ModelFormatError, match=message):
        model.extract_text(page(320, 480, LINES), **ONE_BY_ONE)


def test_pictures_of_all_kinds(reader: MobileMultiModalLLM, tmp_path: Path) -> None:
    pixels = page(320, 480, LINES)
    path = tmp_path / "page.png"
    Image.fromarray(pixels).save(path)
    transparent = Image.fromarray(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]))
    expected = reader.extract_text(pixels, **ONE_BY_ONE)
    for source in (path, str(path), path.read_bytes(), Image.open(path), transparent):
        assert reader.extract_text(source, **ONE_BY_ONE) == expected
    with pytest.raises(InvalidImageError):
        reader.extract_text(b"junk")


def test_captions_are_refused_by_a_file_that_only_reads(reader: MobileMultiModalLLM) -> None:
    with pytest.raises(UnsupportedError, match="cannot caption: its programs are detect_text, recognize_text"):
        reader.generate_caption(page(64, 64, []))


def test_a_closed_model(make_reader: Callable[[], MobileMultiModalLLM]) -> None:
    model = make_reader()
    model.close()
    with pytest.raises(InvalidInputError, match="the model is closed"):
        model.extract_text(page(64, 64, []))


@pytest.fixture
def make_reader(tmp_path: Path) -> Callable[[], MobileMultiModalLLM]:
    return lambda: MobileMultiModalLLM.from_pretrained(write_ocr_model(tmp_path / "closing.gguf"))


def test_the_shipped_model_reads_a_page(shipped_model: MobileMultiModalLLM, root: Path) -> None:
    result = shipped_model.extract_text(root / "examples" / "pages" / "invoice.png")
    assert str(result).splitlines() == [
        "Invoice 4711-A",
        "One small file that sees: 2-bit weights, no network",
        "Total due: 1,284.50 EUR by 2026-12-01",
        "Contact: hello@example.org",
        "even at an angle of 15 degrees",
    ]
    assert all(line.confidence > 0.8 for line in result.lines)
    left, top = result.lines[0].box[0]
    assert abs(left - 40) < 8
    assert abs(top - 38) < 12
