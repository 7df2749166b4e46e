"""Checks what `mobile-mm ask` prints, on a small model and the real core."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("mobile_multimodal.native")

from small_language_model import ANSWERS, write_checkpoint, write_language_model

from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.cli import main as cli

Run = Callable[..., tuple[int, str, str]]
QUESTION = "What color is the ball?"


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ask")
    return write_language_model(folder / "small.gguf", write_checkpoint(folder / "language.pt"))


@pytest.fixture
def run(model_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(command: str, *arguments: str | Path) -> tuple[int, str, str]:
        model = [str(model_path)] if command == "info" else ["--model", str(model_path)]
        try:
            code = cli.main([command, *map(str, arguments), *model])
        except SystemExit as exit_request:  # argparse
            code = int(exit_request.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run_command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures and a file that is none."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    for name, picture in zip("ab", pixels, strict=True):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    return tmp_path


def test_the_answer_of_one_picture_stands_alone(run: Run, model_path: Path, folder: Path) -> None:
    with MobileMultiModalLLM.from_pretrained(model_path) as model:
        expected = model.answer_question(folder / "a.png", QUESTION)
    assert run("ask", folder / "a.png", QUESTION) == (0, f"{expected}\n", "")


def test_json_gives_the_likeliest_answers(run: Run, folder: Path) -> None:
    code, out, err = run("ask", folder / "a.png", QUESTION, "--json", "--top-k", "3")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert record["path"].endswith("a.png")
    assert len(record["alternatives"]) == 3
    assert record["text"] == record["alternatives"][0]["text"]
    assert record["text"] in ANSWERS
    assert 0 < record["confidence"] <= 1 - record["unanswerable"]


def test_options_give_the_likeliest_of_them(run: Run, model_path: Path, folder: Path) -> None:
    with MobileMultiModalLLM.from_pretrained(model_path) as model:
        expected = model.choose(folder / "a.png", QUESTION, ["red", "two dogs"])
    best = max(expected, key=lambda option: expected[option])
    assert run("ask", folder / "a.png", QUESTION, "--options", "red", "two dogs") == (0, f"{best}\n", "")
    _, out, _ = run("ask", folder / "a.png", QUESTION, "--json", "--options", "red", "two dogs")
    record = json.loads(out)
    assert record["text"] == best
    assert {entry["text"]: entry["probability"] for entry in record["alternatives"]} == expected


def test_a_folder_gives_a_line_a_picture_and_its_failures(run: Run, folder: Path) -> None:
    code, out, err = run("ask", folder, QUESTION)
    assert code == 1
    assert [Path(line.split(": ")[0]).name for line in out.splitlines()] == ["a.png", "b.png"]
    assert "c.png" in err
    assert "hint:" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", " "], "question is empty"),
        (["a.png", QUESTION, "--options", "yes"], "options has 1 entries"),
        (["a.png", QUESTION, "--options", "yes", "yes"], "'yes' is given twice"),
        (["a.png", QUESTION, "--top-k", "0"], "setting top_k is 0"),
        (["a.png", QUESTION, "--deadline", "-1"], "setting deadline_seconds is -1"),
        (["a.png"], "QUESTION"),
    ],
)
def test_wrong_arguments_exit_with_2(run: Run, folder: Path, arguments: list[str], message: str) -> None:
    code, out, err = run("ask", folder / arguments[0], *arguments[1:])
    assert (code, out) == (2, "")
    assert message in err


def test_deadline_and_missing_picture_have_their_codes(run: Run, folder: Path) -> None:
    assert run("ask", folder / "a.png", QUESTION, "--deadline", "1e-9")[0] == 7
    assert run("ask", folder / "none.png", QUESTION)[0] == 5
    assert run("ask", folder / "c.png", QUESTION)[0] == 3


def test_info_lists_the_tower(run: Run) -> None:
    code, out, _ = run("info")
    assert code == 0
    assert "word pieces, at most 16 of them a text" in out
    assert f"answers          {len(ANSWERS)}" in out
    for program in ("embed_text", "embed_image", "prepare_question", "answer_question"):
        assert f"  {program}(" in out
    assert "  language " in out
    assert "question.0.memory" in out
    info = json.loads(run("info", "--json")[1])
    assert (info["answers"], info["text_length"]) == (len(ANSWERS), 16)
