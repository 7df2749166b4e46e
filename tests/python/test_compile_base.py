"""Checks that `mobile-mm build --base` keeps parts of a model file bit for bit and exchanges an encoder or a tower."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra `train` is not installed")
gguf = pytest.importorskip("gguf", reason="the extra `train` is not installed")

from small_language_model import ANSWERS, write_checkpoint  # noqa: E402

from mobile_multimodal import MobileMultiModalLLM, native  # noqa: E402
from mobile_multimodal.compile.build import DecoderSource, EncoderSource, LanguageSource, ModelCard, build_model  # noqa: E402
from mobile_multimodal.errors import InvalidInputError, NotFoundError  # noqa: E402
from mobile_multimodal.model.hub import DEFAULT_MODEL, find_model  # noqa: E402

CARD = ModelCard("based")


def silent(line: str) -> None:
    """Takes the stages of a build."""


@pytest.mark.usefixtures("shipped_model")
def test_a_base_model_keeps_its_parts_and_gets_another_tower(tmp_path: Path) -> None:
    base, out = find_model(DEFAULT_MODEL), tmp_path / "based.gguf"
    tower = LanguageSource(write_checkpoint(tmp_path / "language.pt"))
    build_model(out, CARD, None, None, silent, language=tower, base=base)

    before, after = native.Engine(str(base)).metadata(), native.Engine(str(out)).metadata()
    native.Engine(str(out)).verify()
    sections = [section for section in before["mm.sections"] if section != "language"]
    assert {section: after[f"mm.sha256.{section}"] for section in sections} == {
        section: before[f"mm.sha256.{section}"] for section in sections
    }
    kept = [key for key in before if key.startswith(("mm.caption.", "mm.ocr.", "mm.image.", "tokenizer."))]
    assert kept
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert after["mm.programs"] == before["mm.programs"]
    assert tuple(after["mm.answers"]) == ANSWERS
    assert after["mm.sha256.language"] != before["mm.sha256.language"]


@pytest.mark.usefixtures("shipped_model")
def test_a_base_model_gets_an_encoder_of_other_bits(tmp_path: Path, pictures: Path) -> None:
    base, out = find_model(DEFAULT_MODEL), tmp_path / "narrow.gguf"
    build_model(out, CARD, EncoderSource(package="efficientnet-lite0", bits=4), None, silent, base=base)

    before, after = native.Engine(str(base)).metadata(), native.Engine(str(out)).metadata()
    native.Engine(str(out)).verify()
    for section in before["mm.sections"]:
        is_equal = before[f"mm.sha256.{section}"] == after[f"mm.sha256.{section}"]
        assert is_equal == (section != "encoder"), section
    assert after["mm.image.size"] == before["mm.image.size"]
    assert tuple(after["mm.answers"]) == tuple(before["mm.answers"])
    assert out.stat().st_size < base.stat().st_size
    with MobileMultiModalLLM.from_pretrained(out, threads=1) as model:
        assert model.similarity(pictures / "cat.jpg", "a cat") > model.similarity(pictures / "cat.jpg", "a rocket")


@pytest.mark.usefixtures("shipped_model")
def test_a_base_model_brings_its_own_parts(tmp_path: Path) -> None:
    base = find_model(DEFAULT_MODEL)
    with pytest.raises(InvalidInputError, match="brings its own decoder"):
        build_model(tmp_path / "x.gguf", CARD, None, DecoderSource(tmp_path / "none.pt"), silent, base=base)
    with pytest.raises(InvalidInputError, match=r"would be .* again"):
        build_model(tmp_path / "x.gguf", CARD, None, None, silent, base=base)
    encoder = EncoderSource(package="efficientnet-lite0")
    with pytest.raises(NotFoundError, match=r"no model file .*none\.gguf"):
        build_model(tmp_path / "x.gguf", CARD, encoder, None, silent, base=tmp_path / "none.gguf")
    assert not (tmp_path / "x.gguf").exists()
