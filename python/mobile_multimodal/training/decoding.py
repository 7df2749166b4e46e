"""Writes captions with a model in PyTorch: beam search for tuning, samples for self-critical training.

The beam search follows the core's rules, so that settings tuned here hold for the packed file: finished hypotheses
compete by sum(log p) / length^alpha, where length counts the generated tokens with the end token; a picture is done
when `num_beams` hypotheses are finished.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mobile_multimodal.quantization.linear import frozen_weights
from mobile_multimodal.training.caption_model import CaptionModel
from mobile_multimodal.training.caption_text import BOS, EOS, PAD


@dataclass(frozen=True)
class BeamSettings:
    """alpha 0 scored best on dev after cross-entropy training (docs/experiments/0001)."""

    num_beams: int = 3
    alpha: float = 0.0
    max_tokens: int = 30


@dataclass
class _Hypothesis:
    tokens: list[int]
    score: float


@torch.no_grad()
def beam_search(model: CaptionModel, features: Tensor, settings: BeamSettings) -> list[list[int]]:
    """Best token list (without bos and eos) for each picture of features [B, 49, 1280]."""
    was_training = model.training
    model.eval()
    with frozen_weights(model):
        captions = _beam_search(model, features, settings)
    model.train(was_training)
    return captions


def _beam_search(model: CaptionModel, features: Tensor, settings: BeamSettings) -> list[list[int]]:
    pictures, beams = features.shape[0], settings.num_beams
    cross, cache = model.start(features, beams)
    tokens = torch.full((pictures * beams,), BOS)
    total = torch.full((pictures, beams), -torch.inf)
    total[:, 0] = 0.0
    written: list[list[list[int]]] = [[[] for _ in range(beams)] for _ in range(pictures)]
    finished: list[list[_Hypothesis]] = [[] for _ in range(pictures)]
    steps = min(settings.max_tokens, model.config.max_length)
    for step in range(1, steps + 1):
        scores = F.log_softmax(model.step(tokens, cross, cache), dim=-1).view(pictures, beams, -1)
        scores[..., BOS] = scores[..., PAD] = -torch.inf
        vocab = scores.shape[-1]
        best, flat = (total[..., None] + scores).view(pictures, -1).topk(2 * beams, dim=-1)
        best_list, flat_list = best.tolist(), flat.tolist()
        origin = torch.arange(pictures * beams).view(pictures, beams).clone()
        next_tokens = torch.full((pictures, beams), EOS)
        total = torch.full((pictures, beams), -torch.inf)
        for picture in range(pictures):
            if len(finished[picture]) >= beams:
                continue
            alive: list[list[int]] = []
            for rank, (value, place) in enumerate(zip(best_list[picture], flat_list[picture], strict=True)):
                beam, token = divmod(place, vocab)
                if token == EOS:
                    if rank < beams:
                        score = value / step**settings.alpha
                        finished[picture].append(_Hypothesis(written[picture][beam], score))
                    continue
                slot = len(alive)
                alive.append([*written[picture][beam], token])
                total[picture, slot], next_tokens[picture, slot] = value, token
                origin[picture, slot] = picture * beams + beam
                if len(alive) == beams:
                    break
            written[picture] = alive
        if all(len(done) >= beams for done in finished):
            break
        cache.reorder(origin.flatten())
        tokens = next_tokens.flatten()
    for picture, done in enumerate(finished):
        if not done:
            values = (total[picture] / steps**settings.alpha).tolist()
            done.extend(_Hypothesis(*pair) for pair in zip(written[picture], values, strict=True))
    return [max(done, key=lambda hypothesis: hypothesis.score).tokens for done in finished]


@torch.no_grad()
def sample(
    model: CaptionModel, features: Tensor, samples: int, max_tokens: int = 30, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Draws captions: tokens [B * samples, length] that end with eos or max_tokens, and their lengths [B * samples].

    The length counts the end token. Uses the generator state of torch (seeded by the caller).
    """
    was_training = model.training
    model.eval()
    rows = features.shape[0] * samples
    with frozen_weights(model):
        cross, cache = model.start(features, samples)
        tokens = torch.full((rows,), BOS)
        alive = torch.ones(rows, dtype=torch.bool)
        lengths = torch.zeros(rows, dtype=torch.long)
        drawn = []
        for _ in range(max_tokens):
            logits = model.step(tokens, cross, cache) / temperature
            logits[:, [BOS, PAD]] = -torch.inf
            # Inverse of the distribution function; torch.multinomial draws a random number for every word instead.
            mass = logits.softmax(dim=-1).cumsum(dim=-1)
            tokens = torch.searchsorted(mass, torch.rand(rows, 1) * mass[:, -1:], right=True)[:, 0]
            tokens.clamp_(max=mass.shape[-1] - 1)
            tokens = torch.where(alive, tokens, torch.full_like(tokens, PAD))
            drawn.append(tokens)
            lengths += alive
            alive = alive & (tokens != EOS)
            if not alive.any():
                break
    model.train(was_training)
    return torch.stack(drawn, dim=1), lengths
