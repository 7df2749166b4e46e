"""Runs `mobile-mm train caption` from pictures to a 2-bit student."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("pycocoevalcap", reason="the extra `train` is not installed")

from mobile_multimodal.cli.main import main
from mobile_multimodal.training.checkpoint import load_checkpoint

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200), "white": (240, 240, 240)}
TINY = ["--width", "64", "--heads", "2", "--layers", "1", "--ffn", "64", "--vocab-size", "320", "--views", "2"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of plain pictures in four colours, five captions each."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("extra", 1), ("dev", 2)):
        lines = ["image,caption"]
        for name, colour in COLOURS.items():
            for i in range(count):
                pixels = np.clip(random.normal(colour, 12, size=(64, 64, 3)), 0, 255).astype(np.uint8)
                path = folder / "images" / f"{split}-{name}-{i}.png"
                Image.fromarray(pixels).save(path)
                lines += [f"{path.name},a {name} picture number {k}" for k in range(5)]
        (folder / f"captions_{split}.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.mark.usefixtures("shipped_model")
def test_train_runs_from_pictures_to_a_student(
    data: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", "caption", "--data", str(data), "--unlabelled", str(pictures), "--out", str(out)]
    command += ["--effort", "0.01", "--threads", "1", *TINY]
    assert main(command) == 0
    assert "mobile-mm build --decoder" in capsys.readouterr().out
    for stage in ("teacher", "reinforced", "student"):
        assert (out / stage / "metrics.png").stat().st_size > 0
        rounds = [json.loads(line) for line in (out / stage / "metrics.jsonl").read_text().splitlines()]
        assert all(0 <= record["cider_d"]["value"] <= 10 for record in rounds)
    assert load_checkpoint(out / "reinforced" / "model.pt").config.bits == 32
    assert load_checkpoint(out / "student" / "model.pt").config.bits == 2
    # Every stage is done: running again trains nothing.
    weights = (out / "student" / "model.pt").read_bytes()
    assert main(command) == 0
    assert (out / "student" / "model.pt").read_bytes() == weights


def test_effort_must_be_positive(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "caption", "--data", str(data), "--out", str(tmp_path / "run"), "--effort", "0"]) == 2
    assert "effort is 0.0, expected 0 < effort <= 10" in capsys.readouterr().err


def test_a_folder_without_pictures_cannot_serve_imitation(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    command = ["train", "caption", "--data", str(data), "--out", str(tmp_path / "run"), "--stage", "features"]
    command += ["--effort", "0.01", *TINY]
    assert main([*command, "--unlabelled", str(tmp_path / "empty")]) == 2
    assert "holds no pictures" in capsys.readouterr().err
    assert main([*command, "--unlabelled", str(tmp_path / "none")]) == 5
