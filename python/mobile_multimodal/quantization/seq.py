"""Places weights on the levels of 2-, 4- and 8-bit codes: value = scale[row] * (code - zero).

2 and 4 bits use stretched elastic quantization (SEQ, ParetoQ, arXiv 2502.02631): 2^bits balanced levels without a
zero, -1.5 -0.5 0.5 1.5 at two bits, with a learned scale per row (LSQ, arXiv 1902.08153). 8 bits are symmetric
around code 128 with scale max|w| / 127.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mobile_multimodal.errors import InvalidInputError

# Weights this near to the outer edge (in steps) still belong to the outer level: floor(2 - 2^-10) is 1.
EDGE_STEPS = 2.0**-10


@dataclass(frozen=True)
class LevelGrid:
    """The codes of one bit width: `codes` levels, shifted down by `zero`."""

    bits: int
    codes: int
    zero: float
    has_learned_scale: bool

    @property
    def outer_level(self) -> float:
        """The largest level, in steps."""
        return self.codes - 1 - self.zero


_GRIDS = {
    2: LevelGrid(bits=2, codes=4, zero=1.5, has_learned_scale=True),
    4: LevelGrid(bits=4, codes=16, zero=7.5, has_learned_scale=True),
    8: LevelGrid(bits=8, codes=256, zero=128.0, has_learned_scale=False),
}


def level_grid(bits: int) -> LevelGrid:
    """The grid of a bit width; raises InvalidInputError for a width that no kernel reads."""
    grid = _GRIDS.get(bits)
    if grid is None:
        raise InvalidInputError(
            f"weights of {bits} bits were asked for, expected one of {sorted(_GRIDS)}", hint="choose 2, 4 or 8 bits"
        )
    return grid


def steps_to_levels(steps: Tensor, grid: LevelGrid) -> Tensor:
    """Levels (code - zero) nearest to weights given in steps (weight / scale)."""
    if grid.has_learned_scale:
        half = grid.codes / 2
        return steps.clamp(-half + EDGE_STEPS, half - EDGE_STEPS).floor_().add_(0.5)
    return steps.round().clamp_(-grid.outer_level, grid.outer_level)


def inside_grid(weight: Tensor, scale: Tensor, grid: LevelGrid) -> Tensor:
    """True where a weight is not clipped: there its gradient passes straight through."""
    return weight.abs() < scale * (grid.codes / 2 - EDGE_STEPS)


def symmetric_scale(weight: Tensor) -> Tensor:
    """Scale per row, [rows, 1], that puts max|w| on level 127 of the 8-bit grid."""
    return (weight.abs().amax(dim=1, keepdim=True) / 127.0).clamp_min(1e-12)


def least_squares_scale(weight: Tensor, grid: LevelGrid, candidates: int = 40) -> Tensor:
    """Scale per row, [rows, 1], with the least squared error among fractions 0.15..1 of the max|w| scale."""
    weight = weight.detach().float()
    largest = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / grid.outer_level
    best_scale, best_error = largest, torch.full_like(largest, float("inf"))
    for fraction in torch.linspace(0.15, 1.0, candidates).tolist():
        scale = largest * fraction
        error = (steps_to_levels(weight / scale, grid) * scale - weight).square().sum(dim=1, keepdim=True)
        best_scale = torch.where(error < best_error, scale, best_scale)
        best_error = torch.minimum(error, best_error)
    return best_scale
