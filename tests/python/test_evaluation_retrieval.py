"""Checks recalls on cases whose ranks are known, and that a folder is embedded and scored."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mobile_multimodal.cli.main import main
from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.evaluation import retrieval_command
from mobile_multimodal.evaluation.retrieval import evaluate_retrieval, recall_difference, score_similarity


def _score(similarity: list[list[float]], owners: list[int]) -> Any:
    names = [f"{i}.png" for i in range(len(similarity[0]))]
    return score_similarity(names, ["x"] * len(owners), np.array(owners), np.array(similarity, np.float32))


def test_ranks_of_hand_made_similarities() -> None:
    # Three pictures with two sentences each.
    result = _score(
        [[0.9, 0.1, 0.2], [0.3, 0.8, 0.1], [0.7, 0.6, 0.5], [0.1, 0.2, 0.3], [0.2, 0.1, 0.4], [0.5, 0.6, 0.4]],
        [0, 0, 1, 1, 2, 2],
    )
    assert result.ranks["text_to_image"].tolist() == [0, 1, 1, 1, 0, 2]
    # Picture 0: its 0.9 is the best of all; 1: its 0.6 is below 0.8 and equals the 0.6 of picture 2; 2: 0.4 below 0.5.
    assert result.ranks["image_to_text"].tolist() == [0, 2, 1]
    assert result.recalls["text_to_image"][1].value == pytest.approx(2 / 6)
    assert result.recalls["image_to_text"][1].value == pytest.approx(1 / 3)
    assert result.recalls["text_to_image"][5].value == 1.0


def test_equals_do_not_help() -> None:
    assert _score([[0.5] * 20] * 20, list(range(20))).recalls["text_to_image"][10].value == 0.0


def test_ranks_equal_those_of_sorting() -> None:
    random = np.random.default_rng(0)
    similarity, owners = random.normal(size=(60, 20)).astype(np.float32), np.repeat(np.arange(20), 3)
    result = score_similarity([str(i) for i in range(20)], ["x"] * 60, owners, similarity)
    for sentence in range(60):
        assert (
            np.argsort(-similarity[sentence]).tolist().index(owners[sentence])
            == result.ranks["text_to_image"][sentence]
        )
    for picture in range(20):
        order = owners[np.argsort(-similarity[:, picture])]
        assert order.tolist().index(picture) == result.ranks["image_to_text"][picture]


class _Words:
    """Embeds a sentence by the colour it names and a picture by its own."""

    def __init__(self, blind: bool = False) -> None:
        self._blind = blind

    def __enter__(self) -> _Words:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def embed_image(self, image: Path, /) -> NDArray[np.float32]:
        with Image.open(image) as picture:
            pixel = np.asarray(picture.convert("RGB"), dtype=np.float32)[0, 0]
        return np.ones(3, np.float32) if self._blind else pixel / np.linalg.norm(pixel)

    def embed_text(self, text: str, /) -> NDArray[np.float32]:
        return np.eye(3, dtype=np.float32)[["red", "lime", "blue"].index(text.split()[-1])]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    lines = ["image,caption"]
    for colour in ("red", "lime", "blue"):
        Image.new("RGB", (8, 8), colour).save(tmp_path / "images" / f"{colour}.png")
        lines += [f"{colour}.png,all is {colour}", f"{colour}.png,it is {colour}"]
    (tmp_path / "captions_dev.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_a_folder_is_embedded_and_scored(data: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = evaluate_retrieval(_Words(), data, on_embedding=lambda done, total: seen.append((done, total)))
    assert result.recalls["text_to_image"][1].value == result.recalls["image_to_text"][1].value == 1.0
    assert seen[-1] == (9, 9)
    assert len(evaluate_retrieval(_Words(), data, limit=2).sentences) == 4
    blind = evaluate_retrieval(_Words(blind=True), data)
    assert recall_difference(result, blind, "text_to_image", 1).value == 1.0
    (data / "captions_none.csv").write_text("image,caption\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="split 'none'"):
        evaluate_retrieval(_Words(), data, split="none")


def test_the_command_prints_and_writes_a_page(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class _Models:
        @staticmethod
        def from_pretrained(name: str, **_: Any) -> _Words:
            return _Words(blind=name == "blind")

    monkeypatch.setattr(retrieval_command, "MobileMultiModalLLM", _Models)
    page = data / "page.html"
    command = ["evaluate", "retrieval", "--data", str(data), "--model", "good", "--compare", "blind"]
    assert main([*command, "--json", "--html", str(page)]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["pictures"] == 3
    assert scores["text_to_image"]["recall_at_1"]["value"] == 1.0
    assert scores["text_to_image"]["median_rank"] == 1.0
    assert scores["recall_difference"]["image_to_text"]["recall_at_1"]["value"] == 1.0
    assert page.read_text(encoding="utf-8").count("<img ") == 6
    assert main(command) == 0
    assert "recall at 1  100.00 % [100.00, 100.00]" in capsys.readouterr().out
