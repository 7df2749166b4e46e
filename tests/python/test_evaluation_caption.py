"""Checks the metrics and their intervals, and that a captioner is scored on a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pycocoevalcap", reason="the extra `train` is not installed")

from mobile_multimodal.cli.main import main
from mobile_multimodal.errors import InvalidInputError, NotFoundError
from mobile_multimodal.evaluation.bootstrap import mean_interval, ratio_interval
from mobile_multimodal.evaluation.caption import CaptionEvaluation, evaluate_captioner
from mobile_multimodal.evaluation.caption_metrics import metric_words, score_captions
from mobile_multimodal.evaluation.caption_report import ReportModel, write_caption_report
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM

REFERENCES = [
    ["a dog runs on the grass .", "A brown dog running", "the dog is running in the grass"],
    ["two men play chess", "Two men are playing chess in a park", "men at a chess board"],
    ["a boat on the sea", "a small boat sails on the blue sea", "The boat is sailing"],
]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man 's dog , running .", "a man 's dog running"),
        ("A man's dog, running.", "a man 's dog running"),
        ("He isn't here!", "he is n't here"),
        ("a T-shirt (blue)", "a t-shirt blue"),
        ("", ""),
    ],
)
def test_metric_words_drop_punctuation_as_ptb_does(caption: str, words: str) -> None:
    assert metric_words(caption) == words


def test_right_captions_score_above_swapped_ones() -> None:
    right = [texts[0] for texts in REFERENCES]
    good = score_captions(right, REFERENCES)
    bad = score_captions([*right[1:], right[0]], REFERENCES)
    assert good.cider_d.value > bad.cider_d.value
    assert good.bleu_4.value == pytest.approx(1.0)
    assert good.rouge_l.value == pytest.approx(1.0)
    for interval in (bad.cider_d, bad.bleu_4, bad.rouge_l):
        assert interval.low <= interval.value <= interval.high


def test_intervals_cover_a_known_mean() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, size=400)
    interval = mean_interval(values)
    # 1.96 standard errors of 1 / sqrt(400), within the noise of 2,000 resamples.
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    ratio = ratio_interval(values * 0.97, values)
    assert ratio.value == pytest.approx(0.97)
    assert ratio.low == pytest.approx(ratio.high)
    with pytest.raises(InvalidInputError, match="the baseline scores 0"):
        ratio_interval(values, np.zeros(400))


def test_lengths_must_agree() -> None:
    with pytest.raises(InvalidInputError, match="1 captions for 3 pictures"):
        score_captions(["a dog"], REFERENCES)


class _Parrot:
    def __init__(self) -> None:
        self.seen: list[Path] = []

    def generate_caption(self, image: Path, /) -> str:
        self.seen.append(image)
        return REFERENCES[int(image.stem)][0]


def test_a_captioner_is_scored_on_a_folder(tmp_path: Path) -> None:
    lines = ["image,caption"]
    lines += [f'{i}.webp,"{text}"' for i, texts in enumerate(REFERENCES) for text in texts]
    (tmp_path / "captions_dev.csv").write_text("\n".join(lines), encoding="utf-8")
    parrot = _Parrot()
    result = evaluate_captioner(parrot, tmp_path)
    assert [path.name for path in parrot.seen] == ["0.webp", "1.webp", "2.webp"]
    assert result.scores.bleu_4.value == pytest.approx(1.0)
    assert evaluate_captioner(_Parrot(), tmp_path, limit=2).scores.pictures == 2
    with pytest.raises(NotFoundError, match=r"captions_test\.csv is not there"):
        evaluate_captioner(parrot, tmp_path, split="test")


def test_two_models_are_compared_on_the_same_pictures(
    tmp_path: Path, pictures: Path, shipped_model: MobileMultiModalLLM, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    lines = ["image,caption"]
    for name in ("boats.jpg", "cat.jpg"):
        shutil.copy(pictures / name, tmp_path / "images" / name)
        lines += [f"{name},{caption}" for caption in (str(shipped_model.generate_caption(pictures / name)), "a dog")]
    (tmp_path / "captions_dev.csv").write_text("\n".join(lines), encoding="utf-8")
    command = ["evaluate", "caption", "--data", str(tmp_path), "--compare", "mobile-mm-llm-int2"]
    assert main(command) == 0
    assert "first / second, paired: 1.000 [1.000, 1.000]" in capsys.readouterr().out
    report = tmp_path / "report.html"
    assert main([*command, "--json", "--html", str(report)]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["compare"]["cider_d"] == scores["cider_d"]
    assert scores["cider_d_ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    page = report.read_text(encoding="utf-8")
    assert page.count("<img ") == 2
    assert "a dog" in page
    assert "http" not in page, "the page stands alone"


def test_the_report_escapes_what_it_shows(tmp_path: Path, pictures: Path) -> None:
    hostile = "<script>alert(1)</script>"
    scores = score_captions([hostile], [["a dog"]])
    models = [ReportModel("m<b>", CaptionEvaluation({"cat.jpg": hostile}, scores))]
    write_caption_report(tmp_path / "page.html", pictures, {"cat.jpg": [hostile]}, models)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "m<b>" not in page
    assert page.count("&lt;script&gt;") == 2
