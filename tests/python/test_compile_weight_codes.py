"""Rounding of weights to codes stays within the bounds of its grid."""

from __future__ import annotations

import numpy as np
import pytest

from mobile_multimodal.compile.bias_correction import bias_shift, expected_output
from mobile_multimodal.compile.weight_codes import (
    QuantizedMatrix,
    balanced_codes,
    balanced_scale,
    quantize,
    symmetric_codes,
)
from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.model.program import ACTIVATIONS


def weights(n: int = 40, k: int = 96) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n, k)).astype(np.float32)


def test_8_bits_are_off_by_at_most_half_a_step() -> None:
    w = weights()
    w[5] = 0
    matrix = symmetric_codes(w)
    assert (matrix.bits, matrix.zero2) == (8, 256)
    assert matrix.codes.min() >= 1  # -127 .. 127
    bound = matrix.scale[:, None] / 2 * (1 + 1e-6)  # rounding; the factor is for the float32 product
    assert (np.abs(matrix.dequantized() - w) <= bound).all()
    np.testing.assert_array_equal(matrix.codes[5], 128)


@pytest.mark.parametrize("bits", [2, 4])
def test_balanced_codes_inside_the_grid_are_off_by_at_most_half_a_step(bits: int) -> None:
    w = weights()
    scale = (np.abs(w).max(axis=1) / (1 << (bits - 1))).astype(np.float32)
    matrix = balanced_codes(w, bits, scale)
    assert matrix.zero2 == (1 << bits) - 1
    assert matrix.codes.max() < 1 << bits
    assert (np.abs(matrix.dequantized() - w) <= scale[:, None] / 2 * (1 + 1e-5)).all()


@pytest.mark.parametrize("bits", [2, 4])
def test_the_searched_scale_is_no_worse_than_the_largest(bits: int) -> None:
    w = weights()

    def error(scale: np.ndarray) -> np.ndarray:
        return np.square(balanced_codes(w, bits, scale).dequantized() - w).sum(axis=1)

    largest = (np.abs(w).max(axis=1) / (((1 << bits) - 1) / 2)).astype(np.float32)
    assert (error(balanced_scale(w, bits)) <= error(largest) + 1e-6).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_equal_those_of_the_training_kit(bits: int) -> None:
    torch = pytest.importorskip("torch")
    from mobile_multimodal.quantization.export import export_weights
    from mobile_multimodal.quantization.linear import QuantizedLinear

    torch.manual_seed(bits)
    layer = QuantizedLinear(64, 48, bits)
    trained = export_weights(torch.nn.ModuleDict({"layer": layer}))["layer"]
    scale = None if layer.scale is None else layer.scale.detach().numpy()
    matrix = quantize(layer.weight.detach().numpy(), bits, scale)
    assert isinstance(matrix, QuantizedMatrix)
    np.testing.assert_array_equal(matrix.codes, trained.codes)
    np.testing.assert_array_equal(matrix.scale, trained.scale)
    assert matrix.zero2 == 2 * trained.zero


def test_32_bits_keep_the_floats_and_other_widths_are_refused() -> None:
    w = weights()
    np.testing.assert_array_equal(quantize(w, 32), w)
    with pytest.raises(InvalidInputError, match="weights of 3 bits"):
        quantize(w, 3)
    w[0, 0] = np.nan
    with pytest.raises(InvalidInputError, match="NaN or infinity"):
        quantize(w, 8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_expected_output_is_the_mean_over_many_draws(activation: str) -> None:
    from reference_interpreter import activate

    index = ACTIVATIONS.index(activation)
    mean, deviation = np.array([-2.0, 0.1, 4.0]), np.array([1.0, 0.5, 3.0])
    draws = np.random.default_rng(0).normal(size=(200_000, 3)) * deviation + mean
    measured = activate(index, draws.astype(np.float32)).astype(np.float64)
    bound = 6 * measured.std(axis=0) / np.sqrt(len(draws)) + 2e-3  # six standard errors; gelu's tanh form is 5e-4 off
    assert (np.abs(expected_output(mean, deviation, index) - measured.mean(axis=0)) < bound).all()


def test_bias_shift_restores_the_mean_output() -> None:
    w, mean = weights(), np.abs(np.random.default_rng(4).normal(size=96))
    matrix = symmetric_codes(w)
    shifted = matrix.dequantized() @ mean + bias_shift(w, matrix, mean)
    np.testing.assert_allclose(shifted, w.astype(np.float64) @ mean, rtol=0, atol=1e-4)
