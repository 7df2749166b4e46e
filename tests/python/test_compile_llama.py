"""A Llama model that was imported computes what the model computes, and what the importer does not know it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from reference_interpreter import ReferenceModel
from small_llama import SmallLlama
from small_models import relative_error

from mobile_multimodal import native
from mobile_multimodal.cli.main import main
from mobile_multimodal.compile.build import ModelCard
from mobile_multimodal.compile.gguf_source import GgufSource
from mobile_multimodal.compile.llama_gguf import LlamaWeights
from mobile_multimodal.compile.rotation import RotatedWeights, hadamard, orthogonal
from mobile_multimodal.compile.text_model import TextSource, build_text_model
from mobile_multimodal.errors import (
    InvalidInputError,
    MobileMultiModalError,
    ModelFormatError,
    NotFoundError,
    UnsupportedError,
)

TOKENS = [1, 40, 200, 7, 7, 260, 99, 3, 150, 2, 31]


def built(folder: Path, gguf_file: Path, bits: int = 32, **options: Any) -> Path:
    out = folder / f"model-{bits}.gguf"
    build_text_model(out, ModelCard("small"), TextSource(gguf_file, bits, **options), lambda line: None)
    return out


def inputs(tokens: list[int], start: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    return {
        "tokens": np.array(tokens, dtype=np.int32),
        "positions": np.arange(start, start + len(tokens), dtype=np.int32),
        "sequences": np.zeros(len(tokens), dtype=np.int32),
    }


@pytest.mark.parametrize("model", [SmallLlama(), SmallLlama(has_own_head=True), SmallLlama(heads=2, kv_heads=1)])
def test_floats_give_what_float64_gives(tmp_path: Path, model: SmallLlama) -> None:
    path = built(tmp_path, model.write(tmp_path / "source.gguf"))
    session = native.Session(native.Engine(str(path)), threads=1)
    expected = model.plain_logits(TOKENS)
    found = session.run("score_text", inputs(TOKENS))["logits"]
    # float32 sums of 96 terms over two layers: 2^-24 each, a hundredfold over.
    assert relative_error(found, expected) < 1e-5
    session.reset()
    last = session.run("decode_text", inputs(TOKENS[:-1]))["logits"]
    np.testing.assert_array_equal(last, found[-2:-1])
    np.testing.assert_array_equal(
        session.run("decode_text", inputs(TOKENS[-1:], len(TOKENS) - 1))["logits"], found[-1:]
    )


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0.05), (4, 0.8)])
def test_rounded_models_stay_near(tmp_path: Path, bits: int, tolerance: float) -> None:
    """8 bits: errors of at most 1/254 of each row's largest, of weights and activations, over two layers."""
    model = SmallLlama()
    path = built(tmp_path, model.write(tmp_path / "source.gguf"), bits)
    found = native.Session(native.Engine(str(path)), threads=1).run("score_text", inputs(TOKENS))["logits"]
    assert 0 < relative_error(found, model.plain_logits(TOKENS)) < tolerance


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_core_runs_what_the_twin_runs(tmp_path: Path, bits: int) -> None:
    path = built(tmp_path, SmallLlama(layers=1).write(tmp_path / "source.gguf"), bits)
    expected = ReferenceModel(path).run("decode_text", inputs(TOKENS))["logits"]
    found = native.Session(native.Engine(str(path)), threads=2).run("decode_text", inputs(TOKENS))["logits"]
    # A last bit of float32 may move a code of an activation: one step of one of 64 terms.
    assert relative_error(found, expected) < 0.02


def test_turned_coordinates_are_the_same_model(tmp_path: Path) -> None:
    """Every fold of compile/rotation.py, held in float64 against the model that was not turned."""
    model = SmallLlama(heads=4, kv_heads=2, width=48, ffn=40, layers=1)
    weights = LlamaWeights(GgufSource(model.write(tmp_path / "source.gguf")))
    turned = RotatedWeights(weights)
    x = np.random.default_rng(1).normal(size=(5, 48))
    q = turned.embedding().astype(np.float64)
    turn = np.linalg.lstsq(weights.embedding().astype(np.float64), q, rcond=None)[0]
    np.testing.assert_allclose(turn @ turn.T, np.eye(48), atol=1e-5)
    norm = weights.norm("blk.0.attn_norm")
    plain, other = (x * norm) @ weights.qkv(0).T, (x @ turn) @ turned.qkv(0).T
    first_value = (4 + 2) * 12
    np.testing.assert_allclose(other[:, :first_value], plain[:, :first_value], atol=1e-5)
    # Values of a head are turned as `out` expects them: head by head, the product is that of the plain model.
    mixed = np.repeat(plain[:, first_value:].reshape(5, 2, 12), 2, axis=1).reshape(5, 48)
    mixed_turned = np.repeat(other[:, first_value:].reshape(5, 2, 12), 2, axis=1).reshape(5, 48)
    np.testing.assert_allclose(
        mixed_turned @ turned.attention_out(0).T, mixed @ weights.attention_out(0).T @ turn, atol=1e-5
    )
    ffn_norm = weights.norm("blk.0.ffn_norm")
    np.testing.assert_allclose((x @ turn) @ turned.gate_up(0).T, (x * ffn_norm) @ weights.gate_up(0).T, atol=1e-5)
    inner = np.random.default_rng(2).normal(size=(5, 40))
    assert turned.down_block == 8
    spread = (inner.reshape(5, 5, 8) @ hadamard(8)).reshape(5, 40)
    np.testing.assert_allclose(spread @ turned.down(0).T, inner @ weights.down(0).T @ turn, atol=1e-5)
    last = weights.norm("output_norm")
    np.testing.assert_allclose(
        (x @ turn) @ turned.head_turn().T @ turned.embedding().T, (x * last) @ weights.embedding().T, atol=1e-4
    )


@pytest.mark.parametrize("size", [1, 2, 3, 9, 12, 64, 576])
def test_turns_are_orthogonal_and_spread(size: int) -> None:
    matrix = orthogonal(size)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)
    assert np.abs(matrix).max() <= np.sqrt(2 / size) + 1e-12 or size < 3


@pytest.mark.parametrize(
    "kind",
    [
        gguf.GGMLQuantizationType.F16,
        gguf.GGMLQuantizationType.BF16,
        gguf.GGMLQuantizationType.Q8_0,
        gguf.GGMLQuantizationType.Q4_0,
        gguf.GGMLQuantizationType.Q4_1,
        gguf.GGMLQuantizationType.Q5_1,
    ],
)
def test_quantized_sources_are_read_as_the_package_reads_them(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    path = SmallLlama().write(tmp_path / "source.gguf", kind=kind)
    source = GgufSource(path)
    for tensor in gguf.GGUFReader(str(path)).tensors:
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(source.tensor(tensor.name, expected.shape), expected)


def test_equal_input_gives_equal_bytes_and_the_command_line_builds_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = SmallLlama().write(tmp_path / "source.gguf")
    out = tmp_path / "small.gguf"
    command = ["build", "--from-gguf", str(source), "--out", str(out), "--decoder-bits", "8", "--name", "small"]
    assert main(command) == 0
    assert "decode_text" in capsys.readouterr().out
    first = out.read_bytes()
    assert main(command) == 0
    assert out.read_bytes() == first
    content = native.Engine(str(out)).metadata()
    assert content["general.license"] == "mit"
    assert set(content["mm.state.rows"]) == {64}  # the file's context, below 2048
    assert main([*command, "--context", "16"]) == 0
    assert set(native.Engine(str(out)).metadata()["mm.state.rows"]) == {16}
    assert main([*command, "--context", "65"]) != 0
    assert main([*command, "--language", "tower.pt"]) != 0
    assert main(["build", "--out", str(out), "--head-bits", "8", "--encoder-package", "x"]) != 0


def with_integer(key: str, value: int) -> Callable[[gguf.GGUFWriter], None]:
    return lambda writer: writer.add_uint32(key, value)


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "general.architecture": {"architecture": "qwen2"},
    "llama.expert_count": {"change": with_integer("llama.expert_count", 8)},
    "llama.rope.scaling.type": {"change": lambda writer: writer.add_string("llama.rope.scaling.type", "yarn")},
    "llama.attention.sliding_window": {"change": with_integer("llama.attention.sliding_window", 4096)},
    "llama.rope.dimension_count": {"change": with_integer("llama.rope.dimension_count", 8)},
    "blk.0.attn_q.bias": {
        "change": lambda writer: writer.add_tensor("blk.0.attn_q.bias", np.zeros(64, dtype=np.float32))
    },
    "rope_freqs.weight": {
        "change": lambda writer: writer.add_tensor("rope_freqs.weight", np.ones(8, dtype=np.float32))
    },
    "tokenizer.ggml.model": {"model": "llama"},
    "tokenizer.ggml.pre": {"pre": "llama-bpe"},
    "user-defined": {"types": [3, 3, 3, 4, *([1] * 265)]},
}


@pytest.mark.parametrize("named", UNSUPPORTED)
def test_other_models_are_refused_by_name(tmp_path: Path, named: str) -> None:
    path = SmallLlama().write(tmp_path / "source.gguf", **UNSUPPORTED[named])
    with pytest.raises(UnsupportedError, match=named.replace(".", r"\.")):
        built(tmp_path, path, 8)
    assert list(tmp_path.iterdir()) == [path]  # nothing is left of a build that failed


WRONG: dict[str, dict[str, Any]] = {
    "llama.block_count": {"leave_out": ("llama.block_count", "block_count")},
    "llama.embedding_length": {"leave_out": ("embedding_length",)},
    "blk.1.ffn_up.weight": {"leave_out": ("blk.1.ffn_up.weight",)},
    "eos_token_id": {"eos": 999},
    "269 tokens and 268 types": {"types": [3, 3, 3, *([1] * 265)]},
    "token_embd.weight": {"vocab_size": 300},
    "merge": {"merges": ["h e", "q q"]},
}


@pytest.mark.parametrize("named", WRONG)
def test_files_that_contradict_themselves_are_refused(tmp_path: Path, named: str) -> None:
    path = SmallLlama().write(tmp_path / "source.gguf", **WRONG[named])
    with pytest.raises(ModelFormatError, match=named.replace(".", r"\.") if named != "token_embd.weight" else "300"):
        built(tmp_path, path, 8)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = SmallLlama()
    model.weights["blk.0.ffn_up.weight"][3, 4] = np.nan
    with pytest.raises(ModelFormatError, match=r"blk\.0\.ffn_up\.weight.*NaN"):
        built(tmp_path, model.write(tmp_path / "source.gguf"), 8)


def test_damaged_files_are_refused_and_never_crash(tmp_path: Path) -> None:
    """Cut anywhere, or with any byte of the header changed, a file is refused or read: no other exception leaves."""
    whole = SmallLlama(width=16, heads=2, kv_heads=1, ffn=16, layers=1).write(tmp_path / "source.gguf").read_bytes()
    path = tmp_path / "damaged.gguf"
    random = np.random.default_rng(0)
    refused = 0
    for round_number in range(300):
        damaged = bytearray(whole)
        if round_number % 3 == 0:
            damaged = damaged[: int(random.integers(0, len(whole)))]
        else:  # counts and lengths of the header: most bytes are in the first 9 KB
            for place in random.integers(4, 9000, size=int(random.integers(1, 4))):
                damaged[place] = int(random.integers(0, 256))
        path.write_bytes(bytes(damaged))
        try:
            source = GgufSource(path)
            weights = LlamaWeights(source)
            weights.qkv(0)
        except MobileMultiModalError as error:
            refused += 1
            assert str(path) in error.message
    assert refused > 100


@pytest.mark.parametrize("place", [8, 16])
def test_huge_counts_are_refused_at_once(tmp_path: Path, place: int) -> None:
    whole = bytearray(SmallLlama().write(tmp_path / "source.gguf").read_bytes())
    whole[place : place + 8] = (1 << 60).to_bytes(8, "little")
    path = tmp_path / "huge.gguf"
    path.write_bytes(bytes(whole))
    with pytest.raises(ModelFormatError, match="expected at most 65536"):
        GgufSource(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        GgufSource(tmp_path / "missing.gguf")
    path = tmp_path / "text.gguf"
    path.write_text("This is no model, and longer than a header.")
    with pytest.raises(ModelFormatError, match="expected b'GGUF'"):
        GgufSource(path)
    with pytest.raises(InvalidInputError):
        built(tmp_path, SmallLlama().write(tmp_path / "source.gguf"), 8, context=0)
