"""Fits the temperature of a softmax on dev and folds it into the head before it (Guo et al., arXiv 1706.04599)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mobile_multimodal.evaluation.calibration import expected_calibration_error

# Temperatures outside 1/50..50 would say that the model is broken.
_LIMIT = 50.0
_HALVINGS = 60


@dataclass(frozen=True)
class Calibration:
    """The temperature of one head, with the mean negative log likelihood and calibration error before and after."""

    temperature: float
    nll: tuple[float, float]
    calibration_error: tuple[float, float]


def fit_temperature(logits: Tensor, targets: Tensor, weights: Tensor) -> float:
    """The T that minimises the weighted mean of -log softmax(logits / T)[target]; logits [rows, classes].

    The likelihood is concave in 1/T, whose derivative has one zero: it is found by halving.
    """
    logits, share = logits.double(), weights.double() / weights.double().sum()
    hit = logits.gather(1, targets[:, None])[:, 0]

    def slope(inverse: float) -> float:
        expected = ((logits * inverse).softmax(dim=1) * logits).sum(dim=1)
        return float((share * (expected - hit)).sum())

    low, high = 1 / _LIMIT, _LIMIT
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / (low * high) ** 0.5


def calibrate(logits: Tensor, targets: Tensor, weights: Tensor) -> Calibration:
    """Fits the temperature and measures what it changes, on the same rows."""
    temperature = fit_temperature(logits, targets, weights)
    figures = [_figures(logits / t, targets, weights) for t in (1.0, temperature)]
    return Calibration(temperature, (figures[0][0], figures[1][0]), (figures[0][1], figures[1][1]))


def _figures(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[float, float]:
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    confidence, guess = logits.softmax(dim=1).max(dim=1)
    error = expected_calibration_error(confidence.double().numpy(), (guess == targets).double().numpy())
    return float((each * weights).sum() / weights.sum()), error


def fold_temperature(weights: dict[str, Tensor], head: str, temperature: float) -> dict[str, Tensor]:
    """The weights with the head's matrix, scales and bias divided by the temperature: its outputs are, too."""
    parts = {f"{head}.{part}" for part in ("weight", "scale", "bias")}
    return {name: tensor / temperature if name in parts else tensor for name, tensor in weights.items()}
