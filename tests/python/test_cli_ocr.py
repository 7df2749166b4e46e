"""Checks what `mobile-mm ocr` prints and draws, on a small model and the real core."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_ocr_model import page, write_ocr_model

from mobile_multimodal.cli import main as cli

pytest.importorskip("mobile_multimodal.native")

Run = Callable[..., tuple[int, str, str]]

# One line of a picture each: the small model takes one at a time, and boxes need not grow.
FIRST, SECOND = [(40, 30, "abcd")], [(50, 60, "dé a")]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ocr_model(tmp_path_factory.mktemp("ocr") / "small.gguf")


@pytest.fixture
def run(model_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = cli.main(["ocr", "--model", str(model_path), "--unclip-ratio", "0.1", *map(str, arguments)])
        except SystemExit as exit_request:  # argparse
            code = int(exit_request.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run_command


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A folder with two pictures of one stem, and one without text."""
    folder = tmp_path / "pages"
    (folder / "b").mkdir(parents=True)
    Image.fromarray(page(128, 256, FIRST)).save(folder / "scan.png")
    Image.fromarray(page(128, 256, SECOND)).save(folder / "b" / "scan.png")
    Image.fromarray(page(128, 256, [])).save(folder / "white.png")
    return folder


def test_one_picture_prints_its_lines_alone(run: Run, pages: Path) -> None:
    assert run(pages / "scan.png") == (0, "abcd\n", "")
    assert run(pages / "white.png") == (0, "\n", "")


def test_several_pictures_print_their_paths(run: Run, pages: Path) -> None:
    code, out, err = run(pages)
    assert (code, err) == (0, "")
    assert out == f"{pages}/b/scan.png: dé a\n{pages}/scan.png: abcd\n{pages}/white.png: \n"


def test_json_gives_one_object_a_picture(run: Run, pages: Path) -> None:
    code, out, err = run("--json", pages / "scan.png", "missing.jpg")
    first, second = (json.loads(line) for line in out.splitlines())
    assert code == 1
    assert set(first) == {"path", "text", "lines", "dropped_boxes", "timings"}
    assert set(first["lines"][0]) == {"text", "box", "confidence", "character_confidences"}
    assert first["text"] == "abcd"
    assert second["error"]["type"] == "NotFoundError"
    assert "file 'missing.jpg' does not exist" in err


def test_drawing_one_picture(run: Run, pages: Path, tmp_path: Path) -> None:
    out_path = tmp_path / "new" / "boxes.png"
    assert run(pages / "scan.png", "--draw", out_path)[0] == 0
    before, after = (np.asarray(Image.open(path).convert("RGB")) for path in (pages / "scan.png", out_path))
    assert before.shape == after.shape
    changed = np.argwhere((before != after).any(axis=2))
    # An outline around the band at (40, 30) of 108 x 40 pixels, and nothing in its middle.
    assert np.abs(changed.min(axis=0) - (30, 40)).max() <= 3
    assert np.abs(changed.max(axis=0) - (70, 148)).max() <= 3
    assert (before[40:60, 50:140] == after[40:60, 50:140]).all()


def test_drawing_several_pictures_fills_a_folder(run: Run, pages: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    assert run(pages, "--draw", f"{folder}/")[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["scan-2.png", "scan.png", "white.png"]
    code, _, err = run(pages, "--draw", tmp_path / "one.png")
    assert code == 2
    assert "is the file" in err
    assert "for 3 pictures, expected a folder" in err


@pytest.mark.parametrize("target", ["scan.png", "b/../scan.png", "."])
def test_an_input_is_never_overwritten(run: Run, pages: Path, target: str) -> None:
    before = (pages / "scan.png").read_bytes()
    code, out, err = run(pages / "scan.png", "--draw", pages / target)
    assert (code, out) == (2, "")
    assert "would overwrite the picture" in err
    assert (pages / "scan.png").read_bytes() == before


def test_what_cannot_be_drawn(run: Run, pages: Path, tmp_path: Path) -> None:
    code, _, err = run(pages / "scan.png", "--draw", tmp_path / "out.txt")
    assert code == 2
    assert "expected a folder or a file of type .png, .jpg, .jpeg, .webp" in err
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, _, err = run(pages / "scan.png", "--draw", tmp_path / "file" / "out.png")
    assert code == 2
    assert "cannot be written" in err


def test_failures(run: Run, pages: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.png"
    junk.write_bytes(b"junk")
    assert run(junk)[0] == 3
    assert run(tmp_path / "missing.png")[0] == 5
    assert run(pages / "scan.png", "--max-side", "7")[0] == 2
    code, out, _ = run(junk, pages / "scan.png")
    assert (code, out) == (1, f"{pages / 'scan.png'}: abcd\n")
    code, out, err = run(pages / "scan.png", "--deadline", "0.000000001")
    assert (code, out) == (7, "")


def test_a_model_that_only_finds_text_says_what_is_missing(
    tmp_path: Path, pages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_ocr_model(tmp_path / "finder.gguf", programs=["detect_text"])
    arguments: list[Any] = ["ocr", "--model", str(path), str(pages / "scan.png")]
    assert cli.main(arguments) == 8
    assert capsys.readouterr().err == (
        f"mobile-mm: model file {str(path)!r} cannot read text: it has no program recognize_text\n"
        "hint: load a model file with the programs detect_text and recognize_text\n"
    )
