"""Trains the second branch together with what looks at it: retrieval and questions share its features and its gradient.

A step runs the branch once over all pictures of its batch: those of the pairs and those that questions are about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobile_multimodal.compile.detail_branch import SECTION as DETAILS
from mobile_multimodal.errors import NotFoundError
from mobile_multimodal.quantization.fast_types import fast_products
from mobile_multimodal.training.checkpoint import write_atomically
from mobile_multimodal.training.detail_encoder import DetailEncoder
from mobile_multimodal.training.features import FEATURE_SHAPE, FeatureCache
from mobile_multimodal.training.language_model import LanguageConfig, QuestionModel, RetrievalModel
from mobile_multimodal.training.language_parts import Part
from mobile_multimodal.training.language_text import TextStates
from mobile_multimodal.training.picture_features import PictureFeatures
from mobile_multimodal.training.question_batches import QuestionBatch, QuestionBatches
from mobile_multimodal.training.question_dev import HEADLINE as ANSWERS_HEADLINE
from mobile_multimodal.training.question_dev import DevFigures, QuestionDev
from mobile_multimodal.training.question_objectives import Noise, QuestionObjective
from mobile_multimodal.training.retrieval_dev import HEADLINE as RETRIEVAL_HEADLINE
from mobile_multimodal.training.retrieval_dev import RetrievalDev
from mobile_multimodal.training.retrieval_objectives import PairBatch, PairBatches, contrastive_loss

HEADLINE = "recall_and_accuracy"
_AT_ONCE = 64


class DetailTower(nn.Module):
    """The branch, and the two models on its features."""

    def __init__(self, details: DetailEncoder, retrieval: RetrievalModel, questions: QuestionModel) -> None:
        super().__init__()
        self.details, self.retrieval, self.questions = details, retrieval, questions

    def slow_parameters(self) -> list[nn.Parameter]:
        """What was trained on a million pictures before, and has to keep most of it."""
        return list(self.details.parameters())


@dataclass(frozen=True)
class DetailBatch:
    """Pairs and questions whose pictures are cells of the trunk [pictures, 49, 192]."""

    pairs: PairBatch
    questions: QuestionBatch


class DetailBatches:
    """Endless batches of pairs and questions, in fixed proportion."""

    def __init__(self, pairs: PairBatches, questions: QuestionBatches, question_share: float) -> None:
        """question_share: questions for each pair."""
        self._pairs, self._questions, self._share = pairs, questions, question_share

    def __len__(self) -> int:
        return len(self._pairs)

    def batches(self, size: int, random: np.random.Generator) -> Iterator[DetailBatch]:
        """`size` pairs a batch."""
        asked = self._questions.batches(round(size * self._share), random)
        for pairs in self._pairs.batches(size, random):
            yield DetailBatch(pairs, next(asked))


class DetailObjective:
    """Contrast of the pairs plus the questions' losses."""

    def __init__(
        self, states: TextStates, questions: QuestionObjective, noise: Noise, retrieval_dropout: float
    ) -> None:
        """noise: on the features of the branch; retrieval_dropout: on the means that retrieval reads."""
        self._states, self._questions, self._noise, self._dropout = states, questions, noise, retrieval_dropout

    def loss(self, model: DetailTower, batch: DetailBatch) -> tuple[Tensor, float]:
        pictures = torch.cat([batch.pairs.pictures, batch.questions.features])
        with fast_products():
            features = self._noise.on_features(model.details(pictures).float())
        pairs, asked = features.split([len(batch.pairs.pictures), len(batch.questions.features)])
        texts = model.retrieval.embed_texts(F.dropout(self._states.means(batch.pairs.texts), self._dropout))
        seen = model.retrieval.embed_pictures(F.dropout(pairs.mean(dim=1), self._dropout))
        question_loss = self._questions.loss_on(model.questions, batch.questions, asked)
        loss = contrastive_loss(texts, seen) + question_loss
        return loss, loss.item()


class DetailFeatures(PictureFeatures):
    """The branch's features of pictures whose trunk is cached; each is computed once."""

    def __init__(self, details: DetailEncoder, trunk: PictureFeatures) -> None:
        self._details, self._trunk = details.eval(), trunk
        self._known: dict[tuple[str, int], Tensor] = {}

    @torch.no_grad()
    def read(self, keys: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        entries = list(zip(keys, views or [0] * len(keys), strict=True))
        fresh = [entry for entry in dict.fromkeys(entries) if entry not in self._known]
        for start in range(0, len(fresh), _AT_ONCE):
            chosen = fresh[start : start + _AT_ONCE]
            made = self._details(self._trunk.read([key for key, _ in chosen], [view for _, view in chosen]))
            self._known.update(zip(chosen, made.half(), strict=True))
        return torch.stack([self._known[entry] for entry in entries]).float()

    def read_means(self, keys: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        places = views or [0] * len(keys)
        parts = [
            self.read(keys[start : start + _AT_ONCE], places[start : start + _AT_ONCE]).mean(dim=1)
            for start in range(0, len(keys), _AT_ONCE)
        ]
        return torch.cat(parts)


class DetailDev:
    """Callable model -> the figures of both models on the branch; the headline is the mean of their headlines."""

    def __init__(self, trunk: PictureFeatures, retrieval: RetrievalDev, questions: QuestionDev) -> None:
        self._trunk, self._retrieval, self._questions = trunk, retrieval, questions

    def __call__(self, model: DetailTower) -> DevFigures:
        pictures = DetailFeatures(model.details, self._trunk)
        found = self._retrieval.on(pictures)(model.retrieval).as_dict()
        found |= self._questions.on(pictures)(model.questions).as_dict()
        mean = (found[RETRIEVAL_HEADLINE]["value"] + found[ANSWERS_HEADLINE]) / 2
        return DevFigures({HEADLINE: round(mean, 4), **found})


def save_details(path: Path, model: DetailTower, meta: dict[str, Any]) -> None:
    """Writes the three parts under their names."""
    parts = {
        name: {key: tensor.detach().clone() for key, tensor in part.state_dict().items()}
        for name, part in model.named_children()
    }
    write_atomically(path, {"config": asdict(model.retrieval.config), **parts, "meta": meta})


def load_details(path: Path) -> Part:
    """The branch of a file of save_details, its weights under the names of the compiler."""
    if not path.is_file():
        raise NotFoundError(f"{path} is not there", hint="run --stage details first")
    content = torch.load(path, map_location="cpu", weights_only=True)
    weights = {f"{DETAILS}.{name}": tensor for name, tensor in content["details"].items()}
    return Part(LanguageConfig(**content["config"]), weights, content["meta"])


@torch.no_grad()
def build_features(details: DetailEncoder, trunk: FeatureCache, folder: Path, split: str) -> None:
    """Runs the branch over a cache of the trunk; a view appears in `folder` when it is complete."""
    details.eval()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.txt").write_text("\n".join(trunk.names), encoding="utf-8")
    for view in trunk.views:
        target = folder / f"{split}_v{view}.f16"
        if target.is_file():
            continue
        partial = target.with_suffix(".partial")
        rows = np.memmap(partial, np.float16, "w+", shape=(len(trunk.names), *FEATURE_SHAPE))
        for start in range(0, len(trunk.names), _AT_ONCE):
            chosen = range(start, min(start + _AT_ONCE, len(trunk.names)))
            cells = torch.from_numpy(trunk.read(chosen, [view] * len(chosen)))
            rows[start : start + len(chosen)] = details(cells).numpy()
        rows.flush()
        del rows
        partial.rename(target)
