"""Language towers: the core's programs against a plain computation of what docs/model-format.md says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_language_model import (  # noqa: E402
    ANSWERS,
    FEATURES,
    SHAPE,
    VOCABULARY,
    PlainTower,
    checkpoint_content,
    write_checkpoint,
)
from small_models import BothModels, relative_error  # noqa: E402

from mobile_multimodal.compile.build import LanguageSource, ModelCard, build_model  # noqa: E402
from mobile_multimodal.compile.language_checkpoint import load_language_checkpoint  # noqa: E402
from mobile_multimodal.errors import InvalidInputError, ModelFormatError, NotFoundError  # noqa: E402

Array = np.ndarray[Any, Any]
TOKENS = [2, 4, 5, 6, 16, 9, 16, 3]
PAIR = [2, 4, 5, 6, 16, 3, 10, 11, 3]
SEGMENTS = [0, 0, 0, 0, 0, 0, 1, 1, 1]
# A float32 sum of k terms is off by at most k * 2^-24 of the sum of their magnitudes; the longest here has 96 terms.
# Layer norms pass a relative error on without making it larger, so that the products of the deepest path add up:
# 2 + 2 layers of six products each, the attention between them, two heads.
FLOAT_BOUND = 96 * 2.0**-24 * (4 * 8 + 2)
# On int8 rows a float32 rounding can move a value that lies at the edge of two codes by one of 127 steps; of the 64
# to 96 values of a row few lie there, and what one of them moves is a step's share of its row: 1/127 of the largest
# value, about 1e-3 of a row's length. Ten matrices stand one behind another on the deepest path.
CODE_BOUND = 1e-2


def build(folder: Path, checkpoint: Path, bits: int | None = None) -> BothModels:
    path = folder / f"tower-{bits}.gguf"
    build_model(path, ModelCard("test"), None, None, lambda line: None, language=LanguageSource(checkpoint, bits))
    return BothModels(path)


def features(seed: int = 0) -> Array:
    values = np.random.default_rng(seed).normal(size=(SHAPE["feature_length"], FEATURES))
    return np.abs(values).astype(np.float32)


def rows(**values: list[int]) -> dict[str, Array]:
    return {name: np.array(entries, dtype=np.int32) for name, entries in values.items()}


def positions(tokens: list[int]) -> list[int]:
    return list(range(len(tokens)))


def outputs_of(run: Any, picture: Array) -> dict[str, Array]:
    """Every output of the four programs; `run` takes a program and its inputs."""
    text = rows(tokens=TOKENS, positions=positions(TOKENS))
    pair = rows(tokens=PAIR, positions=positions(PAIR), segments=SEGMENTS)
    alone = {**text, **rows(segments=[0] * len(TOKENS))}
    assert run("prepare_question", {"features": picture}) == {}
    answers, scored = run("answer_question", alone), run("answer_question", pair)
    return {
        "text": run("embed_text", text)["embedding"],
        "image": run("embed_image", {"features": picture})["embedding"],
        "answers": answers["answers"],
        "score of a pair": scored["score"],
        "answers of a pair": scored["answers"],
    }


def plain_outputs(tower: PlainTower, picture: Array) -> dict[str, Array]:
    wide = picture.astype(np.float64)
    alone = tower.answer_question(wide, TOKENS, [0] * len(TOKENS))
    pair = tower.answer_question(wide, PAIR, SEGMENTS)
    return {
        "text": tower.embed_text(TOKENS),
        "image": tower.embed_image(wide),
        "answers": alone[0],
        "score of a pair": pair[1],
        "answers of a pair": pair[0],
    }


@pytest.mark.parametrize("form", [{}, {"bits": 32, "shared_bits": 32, "head_bits": 32, "project_bits": 32}])
def test_the_float_twin_is_the_plain_computation(tmp_path: Path, form: dict[str, int]) -> None:
    """32 bits: the weights that the codes stand for, float activations; or a tower that was trained in float."""
    path = write_checkpoint(tmp_path / "language.pt", **form)
    both = build(tmp_path, path, 32)
    assert not {"linear", "embedding"} & set(both.twin.metadata["mm.op_names"])
    expected = plain_outputs(PlainTower(load_language_checkpoint(path), rounds_rows=False), features())
    found = outputs_of(both.session.run, features())
    for name, values in expected.items():
        assert found[name].shape == values.shape, name
        assert relative_error(found[name], values) <= FLOAT_BOUND, name


@pytest.mark.parametrize("form", [{}, {"bits": 4, "shared_bits": 2}, {"question_layers": 1, "project_bits": 2}])
def test_low_bits_agree_with_the_plain_computation(tmp_path: Path, form: dict[str, int]) -> None:
    path = write_checkpoint(tmp_path / "language.pt", **form)
    both = build(tmp_path, path)
    expected = plain_outputs(PlainTower(load_language_checkpoint(path), rounds_rows=True), features())
    twin, core = outputs_of(both.twin.run, features()), outputs_of(both.session.run, features())
    for name, values in expected.items():
        size = float(np.linalg.norm(expected["answers"])) if "score" in name else float(np.linalg.norm(values))
        assert np.linalg.norm(core[name] - values) <= CODE_BOUND * size, name
        assert np.linalg.norm(core[name] - twin[name]) <= CODE_BOUND * size, name


def test_shared_layers_are_stored_once(tmp_path: Path) -> None:
    both = build(tmp_path, write_checkpoint(tmp_path / "language.pt"))
    programs = {name: set(both.twin.metadata[f"mm.program.{name}.tensors"]) for name in both.engine.programs()}
    common = programs["embed_text"] & programs["answer_question"]
    for name in ("embedding.w8", "position.table", "shared.0.qkv.w4", "shared.1.ffn_norm.bias"):
        assert f"language.{name}" in common
    assert not any(name.startswith(("language.text_", "language.question")) for name in common)
    assert len(both.engine.tensors()) == len({name for name, *_ in both.engine.tensors()})
    assert {name for name, *_ in both.engine.tensors()} == set().union(*programs.values())


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_all_matrices_can_be_quantized_anew(tmp_path: Path, bits: int) -> None:
    both = build(tmp_path, write_checkpoint(tmp_path / "language.pt", embedding_bits=32), bits)
    suffixes = {name.rpartition(".")[2] for name, kind, *_ in both.engine.tensors() if kind == "i8"}
    assert suffixes == {f"w{bits}"}


def test_features_may_keep_the_shape_of_the_picture(tmp_path: Path) -> None:
    session = build(tmp_path, write_checkpoint(tmp_path / "language.pt")).session
    flat = session.run("embed_image", {"features": features()})["embedding"]
    square = session.run("embed_image", {"features": features().reshape(4, 4, FEATURES)})["embedding"]
    np.testing.assert_array_equal(flat, square)


def test_a_question_without_a_picture_is_refused(tmp_path: Path) -> None:
    session = build(tmp_path, write_checkpoint(tmp_path / "language.pt")).session
    inputs = rows(tokens=TOKENS, positions=positions(TOKENS), segments=[0] * len(TOKENS))
    with pytest.raises(InvalidInputError, match=r"the state `question\.0\.memory` is empty"):
        session.run("answer_question", inputs)
    session.run("prepare_question", {"features": features()})
    session.run("answer_question", inputs)
    for wrong in ([96] * 8, [-1] * 8):
        with pytest.raises(InvalidInputError, match="expected 0 to"):
            session.run("answer_question", {**inputs, **rows(tokens=wrong)})
    with pytest.raises(InvalidInputError, match="expected 0 to 15"):
        session.run("answer_question", {**inputs, **rows(positions=[16] * 8)})


def test_the_file_names_word_pieces_and_answers(tmp_path: Path) -> None:
    both = build(tmp_path, write_checkpoint(tmp_path / "language.pt"))
    assert both.twin.metadata["mm.wordpiece.tokens"] == VOCABULARY
    assert both.twin.metadata["mm.answers"] == list(ANSWERS)
    assert both.twin.metadata["mm.text.max_length"] == SHAPE["max_length"]
    assert both.engine.encode_word_pieces("What is THIS, dögs?") == [VOCABULARY.index(piece) for piece in (
        "what", "is", "this", ",", "dog", "##s", "?"
    )]  # fmt: skip


def test_equal_checkpoints_give_equal_files(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "language.pt")
    for name in ("a", "b"):
        source = LanguageSource(path)
        build_model(tmp_path / name, ModelCard("same"), None, None, lambda line: None, language=source)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown setting": ({"config": {**SHAPE, "colour": 1}}, r"settings \['colour'\] are unknown"),
    "no separator": ({"vocabulary": "\n".join(set(VOCABULARY) - {"[SEP]"})}, r"lack \[SEP\]"),
    "a piece twice": ({"vocabulary": "\n".join([*VOCABULARY, "dog"])}, "repeat dog"),
    "an empty piece": ({"vocabulary": "[PAD]\n\n[UNK]"}, "is empty"),
    "more pieces than rows": ({"vocabulary": "\n".join([*VOCABULARY, *map(str, range(40))])}, "for a table of 96"),
    "no place for unanswerable": ({"answers": ["yes", "no"]}, "is not 'unanswerable'"),
    "no answers": ({"answers": ["unanswerable"]}, "is not 'unanswerable'"),
    "an answer that is a number": ({"answers": ["unanswerable", 2]}, "empty or no text"),
    "an answer twice": ({"answers": ["unanswerable", "yes", "yes"]}, "repeat yes"),
    "short texts": ({"config": {**SHAPE, "max_length": 4}}, "cannot hold a question"),
    "heads that do not divide": ({"config": {**SHAPE, "heads": 5}}, "does not split into 5 heads"),
}


@pytest.mark.parametrize(("changes", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_checkpoints_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    torch.save({**checkpoint_content(), **changes}, tmp_path / "language.pt")
    with pytest.raises(ModelFormatError, match=message):
        load_language_checkpoint(tmp_path / "language.pt")


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint"):
        load_language_checkpoint(tmp_path / "none.pt")
    content = checkpoint_content()
    torch.save({name: part for name, part in content.items() if name != "answers"}, tmp_path / "part.pt")
    with pytest.raises(ModelFormatError, match=r"lacks \['answers'\]"):
        load_language_checkpoint(tmp_path / "part.pt")
    del content["state_dict"]["question.1.cross_kv.weight"]
    torch.save(content, tmp_path / "weight.pt")
    with pytest.raises(ModelFormatError, match=r"lacks the weight `question\.1\.cross_kv\.weight`"):
        build(tmp_path, tmp_path / "weight.pt")
