"""Linear layers and embeddings that train on low-bit weights and int8 activations with straight-through gradients.

The forward product runs on integer codes. Under bf16 autocast the codes are bf16 (integers up to 256 are exact
there, sums are float32, only the result is rounded); otherwise they are integers with exact sums, which is bit for bit
what the core computes before it scales: int8 with int32 sums, or float32 where every sum stays below 2^24.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mobile_multimodal.quantization.activations import ACTIVATION_LIMIT, quantize_rows
from mobile_multimodal.quantization.fast_types import has_fast_bf16, has_fast_int8
from mobile_multimodal.quantization.seq import (
    LevelGrid,
    inside_grid,
    least_squares_scale,
    level_grid,
    steps_to_levels,
    symmetric_scale,
)

# float32 holds every integer up to this: below it, a product of integers is as exact as in int32, and on a CPU without
# VNNI 80 times as fast as torch's int8 product (39 against 0.44 GFLOP/s, one Zen 3 core).
_EXACT_SUMS = 2**24
# What backward's products run in.
_GRADIENT_TYPE = torch.bfloat16 if has_fast_bf16() else torch.float32


def _operand(levels: Tensor, grid: LevelGrid) -> Tensor:
    """Levels in the type that the product runs in, [inputs, outputs]: bf16 under autocast, else int8 or float32.

    Half levels (..., -0.5, 0.5, ...) become odd integers when doubled.
    """
    if torch.is_autocast_enabled("cpu"):
        return levels.to(torch.bfloat16).t()
    integers = levels * 2 if grid.has_learned_scale else levels
    return integers.to(torch.int8 if has_fast_int8() else torch.float32).t()


def _exact_product(codes: Tensor, operand: Tensor, largest: float) -> Tensor:
    """Integer codes @ operand as float32, in as many columns at once as no sum can leave the exact integers."""
    if operand.dtype == torch.int8:
        return torch._int_mm(codes.to(torch.int8), operand).float()
    step = int((_EXACT_SUMS - 1) // (ACTIVATION_LIMIT * largest))
    with torch.autocast("cpu", enabled=False):
        if codes.shape[1] <= step:
            return codes @ operand
        parts = zip(codes.split(step, dim=1), operand.split(step), strict=True)
        return torch.stack([(part @ rows).to(torch.int32) for part, rows in parts]).sum(dim=0).float()


def _integer_product(codes: Tensor, operand: Tensor, grid: LevelGrid) -> Tensor:
    """codes @ levels^T, [rows, outputs] float32; exact unless the operand is bf16."""
    if operand.dtype == torch.bfloat16:
        with torch.autocast("cpu", enabled=False):
            return (codes.to(torch.bfloat16) @ operand).float()
    sums = _exact_product(codes, operand, grid.outer_level * (2 if grid.has_learned_scale else 1))
    return sums * 0.5 if grid.has_learned_scale else sums


class _LowBitProduct(torch.autograd.Function):
    """y = (q(x) * s_x) @ (levels(w) * scale)^T; gradients as if q and levels were the identity inside their range."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, grid: LevelGrid) -> Tensor:
        codes, row_scale = quantize_rows(x)
        levels = steps_to_levels(weight / scale, grid)
        ctx.grid = grid
        ctx.save_for_backward(codes.to(_GRADIENT_TYPE), row_scale, levels.to(_GRADIENT_TYPE), weight, scale)
        return _integer_product(codes, _operand(levels, grid), grid).mul_(row_scale).mul_(scale.t())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        codes, row_scale, levels, weight, scale = ctx.saved_tensors
        grid: LevelGrid = ctx.grid
        grad_x = grad_weight = grad_scale = None
        with torch.autocast("cpu", enabled=False):
            grad = grad.float()
            if ctx.needs_input_grad[0]:
                grad_x = ((grad * scale.t()).to(_GRADIENT_TYPE) @ levels).float()
            if ctx.needs_input_grad[1]:
                grad_weight = ((grad * row_scale).to(_GRADIENT_TYPE).t() @ codes).float()
                if grid.has_learned_scale:
                    # LSQ, equation 3: d value / d scale = level - step inside the range, level outside.
                    slope = (grad_weight * levels).sum(dim=1, keepdim=True)
                    grad_weight.mul_(inside_grid(weight, scale, grid))
                    slope -= (grad_weight * weight).sum(dim=1, keepdim=True) / scale
                    grad_scale = slope * (weight.shape[1] * grid.outer_level) ** -0.5
        return grad_x, grad_weight, grad_scale, None


class QuantizedLinear(nn.Module):
    """Linear layer without bias, weights of 2, 4 or 8 bits, scale per output row, int8 activations."""

    def __init__(self, inputs: int, outputs: int, bits: int) -> None:
        super().__init__()
        self.grid = level_grid(bits)
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.normal_(self.weight, std=inputs**-0.5)
        self.scale: nn.Parameter | None = None
        if self.grid.has_learned_scale:
            self.scale = nn.Parameter(least_squares_scale(self.weight, self.grid))
        self._frozen: tuple[Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def reset_scale(self, rule: str = "least_squares") -> None:
        """Starts the learned scale again from the weights: 'least_squares' or 'max' (max|w| on the outer level)."""
        if self.scale is None:
            return
        if rule == "max":
            self.scale.copy_(self.weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / self.grid.outer_level)
        else:
            self.scale.copy_(least_squares_scale(self.weight, self.grid))

    def current_scale(self) -> Tensor:
        """Scale per output row, [outputs, 1]."""
        return symmetric_scale(self.weight.detach()) if self.scale is None else self.scale

    def levels(self) -> Tensor:
        """Weights as levels (code - zero), [outputs, inputs]."""
        return steps_to_levels(self.weight / self.current_scale(), self.grid)

    def freeze(self) -> None:
        """Quantizes the weights once, until `thaw`; the product's type is that of the moment (see `_operand`)."""
        with torch.no_grad():
            levels = self.levels()
            self._frozen = (levels, self.current_scale().detach(), _operand(levels, self.grid))

    def thaw(self) -> None:
        self._frozen = None

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if self._frozen is not None:
            _, scale, operand = self._frozen
            codes, row_scale = quantize_rows(rows)
            y = _integer_product(codes, operand, self.grid) * row_scale * scale.t()
        else:
            y = _LowBitProduct.apply(rows, self.weight, self.current_scale(), self.grid)  # type: ignore[no-untyped-call]
        return y.reshape(*x.shape[:-1], -1)


class QuantizedEmbedding(QuantizedLinear):
    """Embedding whose 8-bit rows serve the lookup and, as a linear layer over the tokens, the output head."""

    def lookup(self, tokens: Tensor) -> Tensor:
        """Dequantized rows, [..., width]."""
        rows = self.weight[tokens]
        if self._frozen is not None:
            levels, scale, _ = self._frozen
            return levels[tokens] * scale[tokens].reshape(*tokens.shape, 1)
        if self.scale is None:
            scale = symmetric_scale(rows.detach().reshape(-1, rows.shape[-1])).reshape(*tokens.shape, 1)
        else:
            scale = self.scale.detach()[tokens].reshape(*tokens.shape, 1)
        rounded = steps_to_levels(rows.detach() / scale, self.grid) * scale
        return rows + (rounded - rows).detach()


@contextmanager
def frozen_weights(model: nn.Module) -> Iterator[None]:
    """Quantizes every weight once for the duration: for decoding, where the weights do not change."""
    layers = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    for layer in layers:
        layer.freeze()
    try:
        yield
    finally:
        for layer in layers:
            layer.thaw()
