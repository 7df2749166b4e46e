"""What one training step minimises: captions of people, a teacher's probabilities, or the metric itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from mobile_multimodal.quantization.fast_types import fast_products
from mobile_multimodal.training.caption_data import CaptionBatch, make_batch
from mobile_multimodal.training.caption_model import CaptionModel
from mobile_multimodal.training.caption_text import EOS, PAD, decode
from mobile_multimodal.training.decoding import sample
from mobile_multimodal.training.losses import distillation_loss, policy_gradient_loss
from mobile_multimodal.training.rewards import CiderReward


class SupervisedObjective:
    """Label-smoothed cross-entropy, with a share of it towards the mean probabilities of teachers."""

    def __init__(self, smoothing: float, teachers: Sequence[CaptionModel] = (), teacher_share: float = 0.5) -> None:
        self._smoothing, self._teachers, self._share = (
            smoothing,
            [teacher.eval() for teacher in teachers],
            teacher_share,
        )

    def loss(self, model: CaptionModel, batch: CaptionBatch) -> tuple[Tensor, float]:
        probabilities = None
        with fast_products():
            if self._teachers:
                with torch.no_grad():
                    parts = [teacher(batch.features, batch.batch).softmax(dim=-1) for teacher in self._teachers]
                    probabilities = torch.stack(parts).mean(dim=0) if len(parts) > 1 else parts[0]
            logits = model(batch.features, batch.batch)
        loss = distillation_loss(logits, batch.targets, self._smoothing, probabilities, self._share)
        return loss, loss.item()


class SelfCriticalObjective:
    """Policy gradient on CIDEr-D of sampled captions; each sample's baseline is the mean of the others.

    Rennie et al., arXiv 1612.00563, with the leave-one-out baseline of Luo, arXiv 2003.09971.
    """

    def __init__(self, reward: CiderReward, tokenizer: Tokenizer, samples: int = 5, max_tokens: int = 24) -> None:
        self._reward, self._tokenizer, self._samples, self._max_tokens = reward, tokenizer, samples, max_tokens

    def loss(self, model: CaptionModel, batch: CaptionBatch) -> tuple[Tensor, float]:
        with fast_products():
            drawn, lengths = sample(model, batch.features, self._samples, self._max_tokens)
        rows = [line[:length] for line, length in zip(drawn.tolist(), lengths.tolist(), strict=True)]
        pictures = batch.pictures.repeat_interleave(self._samples).tolist()
        rewards = torch.from_numpy(self._reward(pictures, [decode(self._tokenizer, row) for row in rows]))
        grouped = rewards.view(-1, self._samples)
        others = (grouped.sum(dim=1, keepdim=True) - grouped) / (self._samples - 1)
        captions = [[token for token in row if token not in (EOS, PAD)] for row in rows]
        again = make_batch(batch.features, captions, batch.pictures)
        caption_of_row = again.batch.index // again.batch.tokens.shape[1]
        advantage = (grouped - others).flatten()[caption_of_row]
        # A caption cut at max_tokens never chose its end token.
        finished = torch.tensor([row[-1] == EOS for row in rows])[caption_of_row]
        advantage = advantage * (finished | (again.targets != EOS))
        with fast_products():
            logits = model(batch.features, again.batch)
        return policy_gradient_loss(logits, again.targets, advantage), float(rewards.mean())


class ImitationObjective:
    """Cross-entropy to a teacher's probabilities along captions that the teacher draws itself.

    Sequence-level distillation (Kim and Rush, arXiv 1606.07947) with soft targets. After self-critical training the
    teacher's own captions are where its probabilities matter; captions of people lead it off its path.
    """

    def __init__(self, teacher: CaptionModel, samples: int = 5, max_tokens: int = 24) -> None:
        self._teacher, self._samples, self._max_tokens = teacher.eval(), samples, max_tokens

    def loss(self, model: CaptionModel, batch: CaptionBatch) -> tuple[Tensor, float]:
        with fast_products():
            drawn, _ = sample(self._teacher, batch.features, self._samples, self._max_tokens)
            captions = [[token for token in row if token not in (EOS, PAD)] for row in drawn.tolist()]
            again = make_batch(batch.features, captions, batch.pictures)
            with torch.no_grad():
                probabilities = self._teacher(batch.features, again.batch).softmax(dim=-1)
            logits = model(batch.features, again.batch)
        loss = distillation_loss(logits, again.targets, 0.0, probabilities, teacher_share=1.0)
        return loss, loss.item()
