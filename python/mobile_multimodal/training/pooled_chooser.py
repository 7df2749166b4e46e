"""A small network that chooses among options from pooled features alone, to teach the question model to choose.

A question with an option behind it and the picture meet in a sum and in a product (Kim et al., arXiv 1610.04325). One
takes a minute of one core, so that several seeds cost less than one question model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobile_multimodal.quantization.fast_types import fast_products
from mobile_multimodal.training.language_model import LanguageConfig

# Shares of the text's and the picture's entries that are zeroed: 11,616 questions are few.
_TEXT_DROPOUT, _PICTURE_DROPOUT = 0.2, 0.3
# Dimensions that hardly move are not blown up.
_LEAST_SPREAD = 0.02


class PooledChooser(nn.Module):
    """Scores of options from mean states and mean features, one hidden layer."""

    def __init__(self, config: LanguageConfig, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.text_mean = nn.Parameter(torch.zeros(config.width), requires_grad=False)
        self.text_spread = nn.Parameter(torch.ones(config.width), requires_grad=False)
        self.text, self.text_factor = (nn.Linear(config.width, hidden) for _ in range(2))
        self.picture, self.picture_factor = (nn.Linear(config.feature_width, hidden) for _ in range(2))
        self.score = nn.Linear(hidden, 1)
        self.drop = nn.Dropout(dropout)

    def fit_texts(self, means: Tensor) -> None:
        """Takes the centre and the spread of the texts from their mean states [texts, width]."""
        self.text_mean.data.copy_(means.mean(dim=0))
        self.text_spread.data.copy_(means.std(dim=0).clamp_min(_LEAST_SPREAD))

    def forward(self, texts: Tensor, pictures: Tensor) -> Tensor:
        """Mean states [options, width] and mean features [options, 1280] -> scores [options]."""
        x = F.dropout((texts - self.text_mean) / self.text_spread, _TEXT_DROPOUT, self.training)
        y = F.dropout(F.layer_norm(pictures, pictures.shape[-1:]), _PICTURE_DROPOUT, self.training)
        with fast_products():
            sums = self.text(x).float() + self.picture(y).float()
            products = self.text_factor(x).float() * self.picture_factor(y).float()
            scores: Tensor = self.score(self.drop(F.gelu(sums + products)))[:, 0].float()
        return scores
