"""Quantizes activations to int8 per row: symmetric, dynamic, a row is a token or a pixel."""

from __future__ import annotations

import torch
from torch import Tensor

ACTIVATION_LIMIT = 127  # -128 stays unused, so that negation never overflows.


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (codes, scale) with x ~ codes * scale, codes integral in [-127, 127].

    x: float32 [rows, width]. codes: float32 [rows, width] holding integers, round-half-even(x * (127 / max|x|)) as in
    the core; the product is at most 127 * (1 + 2^-23), so no clamp is needed. scale: float32 [rows, 1]. A row of
    zeros has scale 0 and codes 0.
    """
    x = x.float()
    largest = x.abs().amax(dim=-1, keepdim=True)
    inverse = torch.where(largest > 0, ACTIVATION_LIMIT / largest, torch.zeros_like(largest))
    return (x * inverse).round_(), largest / ACTIVATION_LIMIT
