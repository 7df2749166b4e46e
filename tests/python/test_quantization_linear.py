"""Checks that low-bit layers compute what the integer kernels compute, and learn."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from mobile_multimodal.errors import InvalidInputError  # noqa: E402
from mobile_multimodal.quantization import (  # noqa: E402
    QuantizedEmbedding,
    QuantizedLinear,
    frozen_weights,
    level_grid,
    quantize_rows,
)
from mobile_multimodal.quantization.export import export_weights  # noqa: E402
from mobile_multimodal.quantization.seq import least_squares_scale, steps_to_levels  # noqa: E402

BITS = (2, 4, 8)


def _layer(bits: int, inputs: int = 48, outputs: int = 32) -> QuantizedLinear:
    torch.manual_seed(bits)
    return QuantizedLinear(inputs, outputs, bits)


def test_activations_round_half_to_even_within_127() -> None:
    x = torch.tensor([[127.0, 0.5, 1.5, -2.5, -127.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    codes, scale = quantize_rows(x)
    assert codes.tolist() == [[127.0, 0.0, 2.0, -2.0, -127.0], [0.0] * 5]
    assert scale.tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("largest", [1e-30, 0.3, 1.0, 7.77, 1e30])
def test_activation_error_is_at_most_half_a_step(largest: float) -> None:
    x = torch.randn(64, 33, generator=torch.Generator().manual_seed(0))
    x = x / x.abs().amax() * largest
    codes, scale = quantize_rows(x)
    assert codes.abs().max() == 127
    # Half a step, and the rounding of x * (127 / max) and codes * scale in float32: 3 operations on up to 127 steps.
    assert bool(((codes * scale - x).abs() <= scale * (0.5 + 127 * 3 * 2.0**-24)).all())


@pytest.mark.parametrize("bits", BITS)
def test_exact_product_equals_integers_of_the_exported_codes(bits: int) -> None:
    layer = _layer(bits)
    x = torch.randn(7, 48)
    packed = export_weights(torch.nn.ModuleDict({"part": layer}))["part"]
    assert packed.codes.dtype == np.uint8
    assert int(packed.codes.max()) < 2**bits
    codes, row_scale = quantize_rows(x)
    # Twice the level is an integer for every grid.
    doubled = (2 * packed.codes.astype(np.int64)) - int(2 * packed.zero)
    sums = codes.numpy().astype(np.int64) @ doubled.T
    expected = (sums.astype(np.float32) / 2) * row_scale.numpy() * packed.scale[None, :]
    np.testing.assert_array_equal(layer(x).detach().numpy(), expected)
    with frozen_weights(layer):
        np.testing.assert_array_equal(layer(x).detach().numpy(), expected)


@pytest.mark.parametrize("bits", BITS)
def test_bf16_product_differs_by_its_last_rounding_only(bits: int) -> None:
    layer, x = _layer(bits), torch.randn(9, 48)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(x)
    # bf16 keeps 8 bits: relative error of one rounding 2^-9, doubled for the float32 scaling around it.
    assert bool(((rounded - exact).abs() <= exact.abs() * 2.0**-8).all())


def test_two_bit_levels_are_balanced_and_clip_inside_the_outer_ones() -> None:
    steps = torch.tensor([-9.0, -2.0, -1.0001, -0.1, 0.0, 0.9, 1.0, 2.0, 9.0])
    assert steps_to_levels(steps, level_grid(2)).tolist() == [-1.5, -1.5, -1.5, -0.5, 0.5, 0.5, 1.5, 1.5, 1.5]


def test_least_squares_scale_beats_the_largest_weight_rule() -> None:
    weight, grid = torch.randn(16, 256), level_grid(2)

    def error(scale: torch.Tensor) -> torch.Tensor:
        return (steps_to_levels(weight / scale, grid) * scale - weight).square().sum(dim=1)

    largest = weight.abs().amax(dim=1, keepdim=True) / grid.outer_level
    assert bool((error(least_squares_scale(weight, grid)) < error(largest)).all())


@pytest.mark.parametrize("bits", [2, 4])
def test_gradients_pass_inside_the_grid_and_reach_the_scale(bits: int) -> None:
    layer, x = _layer(bits), torch.randn(5, 48, requires_grad=True)
    with torch.no_grad():
        layer.weight[0, 0] = 100.0  # clipped
    layer(x).square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.scale is not None
    assert layer.scale.grad is not None
    assert float(layer.weight.grad[0, 0]) == 0.0
    assert bool((layer.weight.grad[1:] != 0).any(dim=1).all())
    assert bool((layer.scale.grad != 0).all())
    assert x.grad is not None
    values = (layer.levels() * layer.scale).detach()
    expected = 2 * (layer(x).detach() @ values)
    # The gradient product runs in bf16: 2^-9 on each factor, K = 32 outputs, bounded by the sum of magnitudes.
    bound = 2 * (layer(x).detach().abs() @ values.abs()) * 2.0**-7
    assert bool(((x.grad - expected).abs() <= bound).all())


def test_training_a_two_bit_layer_lowers_its_error() -> None:
    """Correlated inputs: rounding each weight to its nearest level is then far from the best choice."""
    torch.manual_seed(0)
    strength = torch.linspace(2.0, 0.1, 32)
    turn = torch.linalg.qr(torch.randn(32, 32))[0]
    target, x = torch.randn(16, 32), (torch.randn(256, 32) * strength) @ turn
    layer = QuantizedLinear(32, 16, 2)
    with torch.no_grad():
        layer.weight.copy_(target)
    layer.reset_scale()
    optimizer = torch.optim.Adam(layer.parameters(), lr=3e-3)

    def error() -> torch.Tensor:
        return (layer(x) - x @ target.t()).square().mean()

    before = float(error().detach())
    for _ in range(60):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    assert float(error().detach()) < 0.9 * before


def test_embedding_lookup_reads_the_rows_of_its_head() -> None:
    torch.manual_seed(0)
    embedding = QuantizedEmbedding(16, 40, 8)
    values = export_weights(torch.nn.ModuleDict({"embedding": embedding}))["embedding"].values()
    tokens = torch.tensor([0, 39, 7])
    looked_up = embedding.lookup(tokens).detach().numpy()
    # rows + (rounded - rows) loses at most two roundings of the row's magnitude.
    np.testing.assert_allclose(looked_up, values[tokens.numpy()], rtol=0, atol=float(np.abs(values).max()) * 2.0**-22)
    with frozen_weights(embedding):
        np.testing.assert_array_equal(embedding.lookup(tokens).numpy(), values[tokens.numpy()])


def test_other_bit_widths_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="weights of 3 bits"):
        level_grid(3)
