"""Checks `mobile-mm calibrate`, `mobile-mm watch` and `--latency-budget-ms` on the real core."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobile_multimodal import available_models
from mobile_multimodal.cli.main import main


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if "mobile-mm-llm-int2" not in available_models():
        pytest.skip("the package holds no model file mobile-mm-llm-int2.gguf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_calibrate_measures_once_and_says_where(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["calibrate", "--json", "--threads", "1"]) == 0
    (first,) = _lines(capsys)
    tasks = [(point["task"], point["operating_point"]) for point in first["points"]]
    assert tasks[:3] == [("caption", "num_beams=2"), ("caption", "num_beams=1"), ("read_text", "max_side=960")]
    assert first["threads"] == 1
    assert Path(first["kept_in"]).parent == tmp_path / "cache" / "mobile-multimodal"
    assert main(["calibrate", "--json", "--threads", "1"]) == 0
    assert _lines(capsys) == [first]  # measured times do not repeat: it was read
    assert main(["calibrate", "--threads", "1"]) == 0
    table = capsys.readouterr().out
    assert "num_beams=2" in table
    assert first["kept_in"] in table


def test_a_budget_on_the_command_line_is_told_in_the_json(
    capsys: pytest.CaptureFixture[str], pictures: Path, root: Path
) -> None:
    cat, page = str(pictures / "cat.jpg"), str(root / "examples/pages/invoice.png")
    assert main(["caption", "--json", "--latency-budget-ms", "600000", cat]) == 0
    assert _lines(capsys)[0]["budget"]["operating_point"] == "num_beams=2"
    assert main(["ocr", "--json", "--latency-budget-ms", "0.01", page]) == 0
    assert _lines(capsys)[0]["budget"]["fits"] is False
    assert main(["ask", "--json", "--latency-budget-ms", "600000", cat, "What animal is it?"]) == 0
    assert _lines(capsys)[0]["budget"]["operating_point"] == "only"
    assert main(["ocr", "--json", "--profile", "fast", page]) == 0
    assert "budget" not in _lines(capsys)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["caption", "--latency-budget-ms", "0"], "setting latency_budget_ms is 0.0"),
        (["caption", "--latency-budget-ms", "20", "--stream"], "--stream and --latency-budget-ms exclude"),
        (["caption", "--latency-budget-ms", "20", "--batch", "4"], "latency_budget_ms=20.0 and batch_size=4 exclude"),
        (["ocr", "--latency-budget-ms", "nan"], "setting latency_budget_ms is nan"),
        (["watch", "--change-threshold", "300"], "setting change_threshold is 300.0"),
    ],
)
def test_options_that_exclude_each_other(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], pictures: Path
) -> None:
    assert main([*arguments, str(pictures / "cat.jpg")]) == 2
    assert message in capsys.readouterr().err


def test_watch_prints_what_changed(capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, name in enumerate(("cat.jpg", "cat.jpg", "boats.jpg", "boats.jpg")):
        picture = np.asarray(Image.open(pictures / name).convert("RGB").resize((320, 240))).astype(int)
        noise = np.random.default_rng(number).integers(-3, 4, picture.shape)
        Image.fromarray(np.clip(picture + noise, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    (folder / "2b.png").write_bytes(b"no picture")
    assert main(["watch", "--json", str(folder)]) == 1
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [(Path(line["path"]).name, "error" in line) for line in lines] == [
        ("0.png", False),
        ("2.png", False),
        ("2b.png", True),
    ]
    assert "5 pictures, 2 like the one before, 1 failed" in captured.err
    assert main(["watch", str(folder / "0.png"), str(folder / "2.png")]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(f"{folder / '0.png'}: ")
    assert main(["watch", str(tmp_path / "missing.png")]) == 1
