"""Scores finding pictures by sentences and sentences by pictures: recall at 1, 5 and 10."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.evaluation.bootstrap import Interval, mean_interval
from mobile_multimodal.evaluation.caption_references import read_captions

DEPTHS: Final = (1, 5, 10)
DIRECTIONS: Final = ("text_to_image", "image_to_text")


class Embedder(Protocol):
    """What is evaluated: `MobileMultiModalLLM`, or anything with its methods."""

    def embed_image(self, image: Path, /) -> NDArray[np.float32]:
        """A unit vector."""

    def embed_text(self, text: str, /) -> NDArray[np.float32]:
        """A unit vector of the same space."""


@dataclass(frozen=True)
class RetrievalEvaluation:
    """Similarity [sentences, pictures], the picture of each sentence `owners`, ranks (0 is best) and recalls.

    ranks: for each sentence that of its picture, for each picture that of its best sentence.
    """

    names: list[str]
    sentences: list[str]
    owners: NDArray[np.int64]
    similarity: NDArray[np.float32]
    ranks: dict[str, NDArray[np.int64]]
    recalls: dict[str, dict[int, Interval]]

    def as_dict(self) -> dict[str, object]:
        """For JSON: the sizes and the recalls."""
        content: dict[str, object] = {"pictures": len(self.names), "sentences": len(self.sentences)}
        for direction, recalls in self.recalls.items():
            content[direction] = {
                **{f"recall_at_{depth}": asdict(interval) for depth, interval in recalls.items()},
                "median_rank": float(np.median(self.ranks[direction])) + 1,
            }
        return content


def evaluate_retrieval(
    model: Embedder,
    data: Path,
    split: str = "dev",
    limit: int = 0,
    seed: int = 0,
    on_embedding: Callable[[int, int], None] | None = None,
) -> RetrievalEvaluation:
    """Embeds the pictures of the split (or the first `limit`) and all their captions, and ranks each by the other."""
    captions = read_captions(data, [split])
    names = list(captions)[: limit or None]
    if not names:
        raise InvalidInputError(f"split '{split}' of {data} is empty", hint="pass a data set with captions")
    sentences = [text for name in names for text in captions[name]]
    owners = np.array([row for row, name in enumerate(names) for _ in captions[name]])
    sources: list[Callable[[], NDArray[np.float32]]] = [partial(model.embed_image, data / "images" / n) for n in names]
    sources += [partial(model.embed_text, text) for text in sentences]
    vectors = []
    for done, embed in enumerate(sources, start=1):
        vectors.append(embed())
        if on_embedding is not None:
            on_embedding(done, len(sources))
    pictures, texts = vectors[: len(names)], vectors[len(names) :]
    similarity = np.stack(texts) @ np.stack(pictures).T
    return score_similarity(names, sentences, owners, similarity, seed)


def score_similarity(
    names: Sequence[str],
    sentences: Sequence[str],
    owners: NDArray[np.int64],
    similarity: NDArray[np.float32],
    seed: int = 0,
) -> RetrievalEvaluation:
    """Recalls from the similarity [sentences, pictures]; of equals, the wrong one is taken to come first."""
    own = similarity[np.arange(len(owners)), owners]
    is_own = owners[:, None] == np.arange(len(names))
    ranks = {
        "text_to_image": ((similarity >= own[:, None]) & ~is_own).sum(axis=1),
        "image_to_text": _best_sentence_ranks(similarity, is_own),
    }
    recalls = {
        direction: {depth: mean_interval((rank < depth).astype(np.float64), seed) for depth in DEPTHS}
        for direction, rank in ranks.items()
    }
    return RetrievalEvaluation(list(names), list(sentences), owners, similarity, ranks, recalls)


def recall_difference(
    first: RetrievalEvaluation, second: RetrievalEvaluation, direction: str, depth: int, seed: int = 0
) -> Interval:
    """Recall of the first minus that of the second on the same queries, resampled in pairs."""
    hits = [(evaluation.ranks[direction] < depth).astype(np.float64) for evaluation in (first, second)]
    return mean_interval(hits[0] - hits[1], seed)


def _best_sentence_ranks(similarity: NDArray[np.float32], is_own: NDArray[np.bool_]) -> NDArray[np.int64]:
    best = np.where(is_own, similarity, -np.inf).max(axis=0)
    ranks: NDArray[np.int64] = ((similarity >= best[None]) & ~is_own).sum(axis=0)
    return ranks
