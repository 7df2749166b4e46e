"""Losses over logits [rows, vocabulary], with gradients made in the forward pass.

All are cross-entropies to a target distribution, whose gradient is softmax(logits) - target. One pass over the
logits yields both: half the time of torch's smoothed cross-entropy on a CPU (49 against 109 ms for 1957 x 4096).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mobile_multimodal.training.caption_text import PAD


class _CrossEntropyToMixture(torch.autograd.Function):
    """-sum(target * log softmax(logits)), weighted mean over rows; target = hard part + smooth part + teacher part."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        targets: Tensor,
        smoothing: float,
        teacher: Tensor | None,
        teacher_share: float,
        row_weight: Tensor,
    ) -> Tensor:
        hard, smooth = (1 - teacher_share) * (1 - smoothing), (1 - teacher_share) * smoothing
        largest = logits.amax(dim=-1, keepdim=True)
        gradient = (logits - largest).exp_()
        total = gradient.sum(dim=-1, keepdim=True)
        log_total = (total.log() + largest)[:, 0]
        expected = hard * logits.gather(1, targets[:, None])[:, 0]
        gradient.mul_(row_weight[:, None] / total)
        if smooth:
            expected = expected + smooth * logits.mean(dim=-1)
            gradient.sub_((row_weight * (smooth / logits.shape[1]))[:, None])
        if teacher is not None:
            expected = expected + teacher_share * torch.einsum("rv,rv->r", teacher, logits)
            gradient.addcmul_(teacher, (row_weight * -teacher_share)[:, None])
        gradient.scatter_add_(1, targets[:, None], (row_weight * -hard)[:, None])
        ctx.save_for_backward(gradient)
        return (row_weight * (log_total - expected)).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None, None, None


def row_weights(targets: Tensor) -> Tensor:
    """1 / (number of real targets) for real targets, 0 for padding."""
    real = targets != PAD
    return real / real.sum()


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Mean over rows of the label-smoothed cross-entropy."""
    return distillation_loss(logits, targets, smoothing, None, 0.0)


def distillation_loss(
    logits: Tensor, targets: Tensor, smoothing: float, teacher: Tensor | None, teacher_share: float
) -> Tensor:
    """(1 - share) * smoothed cross-entropy + share * cross-entropy to the teacher's probabilities, mean over rows.

    The second term is KL(teacher || student) plus the teacher's entropy, which has no gradient.
    """
    weight = row_weights(targets)
    loss: Tensor = _CrossEntropyToMixture.apply(  # type: ignore[no-untyped-call]
        logits, targets, smoothing, teacher, teacher_share if teacher is not None else 0.0, weight
    )
    return loss


def policy_gradient_loss(logits: Tensor, targets: Tensor, advantage: Tensor) -> Tensor:
    """-mean over rows of advantage * log p(target); advantage [rows] is that of the row's caption."""
    weight = advantage * row_weights(targets)
    loss: Tensor = _CrossEntropyToMixture.apply(logits, targets, 0.0, None, 0.0, weight)  # type: ignore[no-untyped-call]
    return loss
