"""Holds a finished caption, and a caption while it is being written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mobile_multimodal.tasks.latency_budget import BudgetOutcome, with_budget
from mobile_multimodal.tasks.piece_stream import PieceStream, TokenCallback

if TYPE_CHECKING:
    from mobile_multimodal.native import CaptionRecord


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A sentence about a picture; `str()` of it is the sentence.

    text                 the sentence
    confidence           geometric mean of token_probabilities, 0 to 1: how sure the model was of its words on
                         average. It is not the probability that the sentence is true.
    tokens               ids of the pieces, the end token left out
    token_probabilities  the probability of each piece, given those before it; with finish_reason "end", a last one
                         for ending there
    finish_reason        "end" (the model ended it), "length" (max_new_tokens), "stop" (a stop string), "cancelled"
    timings              milliseconds: resize, encode, prefill, first_token, decode, total
    budget               how a latency budget went; None for a call without one
    """

    text: str
    confidence: float
    tokens: tuple[int, ...]
    token_probabilities: tuple[float, ...]
    finish_reason: str
    timings: dict[str, float] = field(compare=False)
    budget: BudgetOutcome | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON; `budget` where the call had one."""
        lists = {"tokens": list(self.tokens), "token_probabilities": list(self.token_probabilities)}
        return with_budget(asdict(self) | lists)


def caption_from_record(record: CaptionRecord, budget: BudgetOutcome | None = None) -> Caption:
    """The public form of what the core returns."""
    return Caption(
        text=record["text"],
        confidence=geometric_mean(record["token_probabilities"]),
        tokens=tuple(record["tokens"]),
        token_probabilities=tuple(record["token_probabilities"]),
        finish_reason=record["finish_reason"],
        timings=dict(record["timings"]),
        budget=budget,
    )


def geometric_mean(probabilities: Sequence[float]) -> float:
    """exp(mean(log p)); 0 for no probabilities at all or for one that is 0."""
    if not probabilities or min(probabilities) <= 0:
        return 0.0
    return math.exp(sum(math.log(p) for p in probabilities) / len(probabilities))


@dataclass(frozen=True, kw_only=True)
class CaptionPiece:
    """One token of a caption as it is written; `str()` of it is its text."""

    text: str
    token: int
    probability: float

    def __str__(self) -> str:
        return self.text


class CaptionStream(PieceStream[CaptionPiece, Caption]):
    """Yields the pieces of one caption as the core writes them, on a thread of its own.

    After the last piece, `caption` is the whole. Closing early (or leaving the `with` block) cancels the rest.
    """

    def __init__(self, write: Callable[[TokenCallback], Caption]) -> None:
        super().__init__(
            write, lambda text, token, probability: CaptionPiece(text=text, token=token, probability=probability)
        )

    @property
    def caption(self) -> Caption | None:
        """The whole caption; None until the stream has ended, and when it was closed early."""
        return self._whole
