"""Tests that the race's contestants hold the same weights: Q2_K, MatMulNBits, the caption decoder's twin."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from language.linear_layers import SHAPES, _onnx_graph, activations, draw_matrices, open_core, pack_blocks
from language.shared_file import on_grid
from language.shared_weights import SharedShape, dequantized, draw_codes, q2_k_blocks
from race.cache import made

from mobile_multimodal import available_models, find_model
from mobile_multimodal.compile.weight_codes import QuantizedMatrix, quantize
from mobile_multimodal.model.hub import DEFAULT_MODEL


def test_q2_k_holds_our_two_bits_exactly() -> None:
    codes, scale = draw_codes(np.random.default_rng(0), 48, 1024, 0.03)
    blocks = q2_k_blocks(codes, scale)
    assert blocks.shape == (48, 4 * 84)
    found = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q2_K)
    assert np.array_equal(found, dequantized(codes, scale))


def test_rounding_those_weights_again_changes_nothing() -> None:
    codes, scale = draw_codes(np.random.default_rng(1), 32, 768, 0.05)
    found = quantize(dequantized(codes, scale), 2)
    assert isinstance(found, QuantizedMatrix)
    assert np.array_equal(found.codes, codes)
    assert np.array_equal(found.scale, scale)


def test_weights_on_the_grid_become_the_codes_that_they_are() -> None:
    codes, scale = draw_codes(np.random.default_rng(5), 32, 256, 0.04)
    assert np.array_equal(on_grid(dequantized(codes, scale)).codes, codes)
    with pytest.raises(ValueError, match="do not lie on a grid"):
        on_grid(np.random.default_rng(6).standard_normal((4, 256)).astype(np.float32))


def test_q2_k_refuses_what_it_would_round() -> None:
    codes, scale = draw_codes(np.random.default_rng(2), 4, 256, 0.03)
    with pytest.raises(ValueError, match="no float16"):
        q2_k_blocks(codes, scale * np.float32(1.0001))
    with pytest.raises(ValueError, match="blocks of 256"):
        q2_k_blocks(codes[:, :128], scale)


def test_widths_of_the_shared_model_divide_into_blocks() -> None:
    shape = SharedShape()
    assert all(columns % 256 == 0 for _, columns in shape.matrices().values())
    assert 90e6 < shape.linear_weights < 110e6  # SmolLM2-135M: 106 million


def test_blocks_of_matmulnbits_begin_with_the_lowest_bits() -> None:
    codes = np.zeros((1, 64), np.uint8)
    codes[0, :5] = (1, 2, 3, 0, 2)
    assert pack_blocks(codes, 2)[0, 0, :2].tolist() == [1 | 2 << 2 | 3 << 4, 2]
    assert pack_blocks(codes, 4)[0, 0, :3].tolist() == [1 | 2 << 4, 3, 2]


@pytest.mark.parametrize("bits", [2, 4])
def test_linear_layers_of_both_engines_compute_the_same_sum(
    bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is in the extra dev")
    monkeypatch.setenv("MM_BENCH_CACHE", str(tmp_path))
    shape = "attention_out"
    x = activations(shape, 64)[:3]
    zero = ((1 << bits) - 1) / 2
    weights = [(each.codes - zero) * each.scale[:, None].astype(np.float64) for each in draw_matrices(shape, bits)]
    expected = sum(x @ weight.T for weight in weights)
    # Activations of 8 bits are off by half a step of max|x| / 127 at most; both engines add up exactly but for float32.
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    bound = step / 2 * sum(np.abs(weight).sum(axis=1) for weight in weights) + 1e-3
    session = onnxruntime.InferenceSession(_onnx_graph(shape, bits), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"x": x})
    ours = open_core(bits, threads=1)._run(shape, x)
    assert SHAPES[shape] == (576, 576)
    assert (np.abs(theirs - expected) <= bound).all()
    assert (np.abs(ours - expected) <= bound).all()


def test_an_interrupted_file_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    def fail(half: Path) -> None:
        half.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "file", fail)
    assert list(tmp_path.iterdir()) == []
    assert made(tmp_path / "file", lambda half: half.write_bytes(b"whole") and None).read_bytes() == b"whole"


@pytest.fixture
def model_file() -> Path:
    if DEFAULT_MODEL not in available_models():
        pytest.skip(f"the package holds no model file {DEFAULT_MODEL}.gguf")
    return find_model(DEFAULT_MODEL)


def test_the_decoder_twin_says_what_the_core_says(model_file: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is in the extra train")
    from tasks.decoder_twin import decoder_twin

    from mobile_multimodal import native

    twin = decoder_twin(model_file)
    features = np.maximum(np.random.default_rng(3).standard_normal((49, 1280)), 0).astype(np.float32)
    session = native.Session(native.Engine(str(model_file)), threads=1)
    session.run("prefill", {"features": features})
    token = {"tokens": np.array([5]), "positions": np.array([0]), "sequences": np.array([0])}
    ours = session.run("decode", {name: value.astype(np.int32) for name, value in token.items()})["logits"][0]
    with torch.no_grad():
        cross, cache = twin.start(torch.from_numpy(features)[None], 1)
        theirs = twin.step(torch.tensor([5]), cross, cache)[0].numpy()
    assert np.corrcoef(ours, theirs[: len(ours)])[0, 1] > 0.995  # the core rounds activations to 8 bits


def test_the_exported_decoder_is_the_twin(model_file: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is in the extra train")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is in the extra dev")
    from tasks.decoder_onnx import PREFILL_FILE, STEP_FILE, OnnxDecoder, export_decoder
    from tasks.decoder_twin import decoder_twin

    from mobile_multimodal.training.decoding import BeamSettings, beam_search

    twin = decoder_twin(model_file)
    export_decoder(twin, tmp_path / "decoder")
    sessions = [
        onnxruntime.InferenceSession(str(tmp_path / "decoder" / name), providers=["CPUExecutionProvider"])
        for name in (PREFILL_FILE, STEP_FILE)
    ]
    features = torch.from_numpy(np.maximum(np.random.default_rng(4).standard_normal((1, 49, 1280)), 0)).float()
    exported = OnnxDecoder(twin.config, *sessions)
    settings = BeamSettings(3, 0.0, 8)
    assert beam_search(exported, features, settings) == beam_search(twin, features, settings)
    cross, cache = exported.start(features, 2)
    expected_cross, expected_cache = twin.start(features, 2)
    for tokens in (torch.tensor([0, 7]), torch.tensor([9, 11])):
        with torch.no_grad():
            expected = twin.step(tokens, expected_cross, expected_cache)
        # The same float32 sums in another order: 512 to 1280 terms of size 1 and a depth of 3 layers.
        assert torch.allclose(exported.step(tokens, cross, cache), expected, atol=1e-3)
