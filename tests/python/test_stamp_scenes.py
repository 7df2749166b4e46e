"""Checks that pictures of stamps are asked what their stamps answer."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("tokenizers", reason="the extra `train` is not installed")

from mobile_multimodal.cli.main import main
from mobile_multimodal.errors import NotFoundError
from mobile_multimodal.evaluation.question_sets import UNANSWERABLE, read_question_set
from mobile_multimodal.training.scene_questions import Placed, Scene, SceneQuestions, plural_of, with_article
from mobile_multimodal.training.stamp_scenes import compose
from mobile_multimodal.training.stamps import Stamp, name_of, read_stamps


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("A frog.", "frog"),
        ("A pair of pants.", "pants"),
        ("A “Fuji” apple.", "apple"),
        ("A tennis ball.", "tennis ball"),
        ("A colorful rooster.", "rooster"),
        ("A peacock (a male peafowl).", "peacock"),
        ("A bunch of grapes.", "grapes"),
        ("A sports car.", "car"),
        ("Remember to flush the toilet and wash your hands with soap!", ""),
        ("", ""),
    ],
)
def test_a_stamp_is_named_by_the_head_of_its_description(description: str, name: str) -> None:
    assert name_of(description) == name


def test_names_in_questions() -> None:
    assert [plural_of(name) for name in ("dog", "bus", "mouse", "sheep", "pants")] == [
        "dogs",
        "buses",
        "mice",
        "sheep",
        "pants",
    ]
    assert [with_article(name) for name in ("owl", "dog", "grapes", "sun")] == ["an owl", "a dog", "grapes", "the sun"]


@pytest.fixture
def stamps(tmp_path: Path) -> Path:
    """A folder as Tux Paint has it: discs in eight colours with descriptions."""
    folder = tmp_path / "stamps"
    things = {
        "animals": ("dog", "cat", "horse", "frog", "cow", "elephant"),
        "food/fruit": ("apple", "banana", "kiwi"),
        "vehicles": ("bus", "train"),
        "animals/birds": ("owl", "penguin"),
    }
    for part, names in things.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        for name in names:
            for number in (1, 2):
                picture = Image.new("RGBA", (80, 60))
                ImageDraw.Draw(picture).ellipse((10, 10, 70, 50), fill=(40 * number, 90, 200, 255))
                picture.save(folder / part / f"{name}{number}.png")
                (folder / part / f"{name}{number}.txt").write_text(f"A {name}.\nfr.utf8=x\n", encoding="utf-8")
    (folder / "symbols").mkdir()
    Image.new("RGBA", (8, 8), "red").save(folder / "symbols" / "a.png")
    return folder


def test_stamps_are_read_with_their_classes(stamps: Path) -> None:
    found = {stamp.path.stem: stamp for stamp in read_stamps(stamps)}
    assert found["owl1"].classes == ("bird", "animal")
    assert found["kiwi2"].classes == ("fruit", "food")
    assert "a" not in found, "letters are no things"
    assert found["dog1"].picture(30).size == (30, 20), "empty borders are cut off"
    with pytest.raises(NotFoundError, match="tuxpaint-stamps-default"):
        read_stamps(stamps / "none")


def test_questions_agree_with_what_was_placed(stamps: Path) -> None:
    every = read_stamps(stamps)
    asker = SceneQuestions(every)
    seen = set()
    for index in range(300):
        random = Random(index)
        scene = compose(every, [], random)
        names = [item.stamp.name for item in scene.placed]
        classes = {name for item in scene.placed for name in item.stamp.classes}
        for question in asker.about(scene, "x", random):
            seen.add(question.kind)
            words = question.question.rstrip("?").split()
            if question.kind == "background":
                assert question.answer == scene.background
            elif question.kind == "count":
                counted = [name for name in names if plural_of(name) == words[2]]
                assert question.answer == str(len(counted))
            elif question.kind == "yesno":
                asked = set(words) & {name for stamp in every for name in (stamp.name, *stamp.classes)}
                assert len(asked) == 1, question
                assert (question.answer == "yes") == (asked <= {*names, *classes})
            elif question.kind == "what":
                assert question.answer in names
            if question.options:
                assert question.answer in question.options
    assert {"background", "count", "yesno", "what", "left_right", "above_below", "size"} <= seen


def test_left_is_where_the_smaller_x_is(stamps: Path) -> None:
    dog, cat = (next(s for s in read_stamps(stamps) if s.name == name) for name in ("dog", "cat"))
    scene = Scene(Image.new("RGB", (224, 224)), (Placed(dog, (0, 100, 40, 140)), Placed(cat, (150, 100, 190, 140))), "")
    asker = SceneQuestions([dog, cat])
    found = {q.question: q.answer for seed in range(200) for q in asker.about(scene, "x", Random(seed))}
    assert found["What is to the left of the cat?"] == "dog"
    assert found["What is to the right of the dog?"] == "cat"
    assert found["Is the dog to the right of the cat?"] == "no"
    assert not any("above" in question or "below" in question for question in found)


def test_the_command_writes_both_splits(stamps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["questions", "--stamps", str(stamps), "--pictures", "40", "--out", str(out)]
    assert main(command) == 0
    assert "stamps, train:" in capsys.readouterr().out
    train, dev = (read_question_set(out / "stamps", split) for split in ("train", "dev"))
    assert len({question.image for question in train.questions}) == 36
    assert len({question.image for question in dev.questions}) == 4
    assert any(question.answer == UNANSWERABLE for question in train.questions)
    with Image.open(train.images / train.questions[0].image) as picture:
        assert picture.size == (224, 224)
        assert np.asarray(picture).std() >= 0
    first = (out / "stamps" / "questions_train.jsonl").read_bytes()
    assert main(command) == 0
    assert (out / "stamps" / "questions_train.jsonl").read_bytes() == first
    assert main(["questions", "--out", str(out)]) == 2
    assert main([*command, "--pictures", "3"]) == 2


def test_a_stamp_is_drawn_at_its_size(tmp_path: Path) -> None:
    path = tmp_path / "s.png"
    Image.new("RGBA", (10, 40), "red").save(path)
    assert Stamp(path, "x", (), False).picture(100).size == (25, 100)
