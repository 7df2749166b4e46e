"""Runs the evaluations of questions and retrieval on a small model file in the real core."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("mobile_multimodal.native")

from small_language_model import write_checkpoint, write_language_model

from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.cli.main import main
from mobile_multimodal.evaluation.question_sets import UNANSWERABLE, Question, write_questions


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures with captions and questions, and two models that differ."""
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    lines = ["image,caption"]
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "images" / f"{index}.png")
        lines += [f"{index}.png,the red ball {index}", f"{index}.png,a dog"]
    (tmp_path / "captions_dev.csv").write_text("\n".join(lines), encoding="utf-8")
    for seed in (0, 1):
        write_language_model(tmp_path / f"{seed}.gguf", write_checkpoint(tmp_path / f"{seed}.pt", seed=seed))
    return tmp_path


def test_answers_are_those_of_the_model(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [("0.png", "What is this?"), ("1.png", "What color is the ball?"), ("2.png", "How many balls?")]
    options = ("red", "blue", "the dog")
    with MobileMultiModalLLM.from_pretrained(str(data / "0.gguf")) as model:
        said = [model.answer_question(data / "images" / image, text) for image, text in asked]
        chosen = model.choose(data / "images" / "0.png", "What color?", options)
    # The first answer is made right, the second wrong; of the options the likeliest is made right.
    questions = [
        Question(*asked[0], said[0].text, "what"),
        Question(*asked[1], "nothing of that kind", "colour"),
        Question("0.png", "What color?", max(chosen, key=lambda option: chosen[option]), "colour", options),
        Question(*asked[2], UNANSWERABLE, UNANSWERABLE),
    ]
    for split in ("train", "dev"):
        write_questions(data / f"questions_{split}.jsonl", questions)
    answers = data / "answers.json"
    command = ["evaluate", "vqa", "--data", str(data), "--model", str(data / "0.gguf"), "--json"]
    assert main([*command, "--answers", str(answers), "--compare", str(data / "1.gguf")]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["kinds"]["what"]["accuracy"]["value"] == 1.0
    assert scores["kinds"]["colour"]["accuracy"]["value"] == 0.5
    assert scores["unanswerable"]["mean_confidence"] == pytest.approx(said[2].confidence)
    given = json.loads(answers.read_text(encoding="utf-8"))
    assert [entry["confidence"] for entry in given] == pytest.approx(
        [said[0].confidence, said[1].confidence, max(chosen.values()), said[2].confidence]
    )
    first, second = scores["kinds"]["all"]["accuracy"], scores["compare"]["kinds"]["all"]["accuracy"]
    assert scores["accuracy_difference"]["all"]["value"] == pytest.approx(first["value"] - second["value"])


def test_recalls_are_those_of_the_vectors(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with MobileMultiModalLLM.from_pretrained(str(data / "0.gguf")) as model:
        pictures = np.stack([model.embed_image(data / "images" / f"{index}.png") for index in range(3)])
        sentences = np.stack([model.embed_text(f"the red ball {index}") for index in range(3)])
    hits = (sentences @ pictures.T).argmax(axis=1) == np.arange(3)
    # "a dog" is the same sentence three times: it finds one picture, so one of three.
    page = data / "page.html"
    command = ["evaluate", "retrieval", "--data", str(data), "--model", str(data / "0.gguf"), "--html", str(page)]
    assert main([*command, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["text_to_image"]["recall_at_1"]["value"] == pytest.approx((hits.sum() + 1) / 6)
    assert scores["text_to_image"]["recall_at_5"]["value"] == 1.0
    assert page.is_file()
