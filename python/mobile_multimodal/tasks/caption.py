"""Holds a finished caption, and a caption while it is being written."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mobile_multimodal.errors import InternalError
from mobile_multimodal.tasks.latency_budget import BudgetOutcome, with_budget

if TYPE_CHECKING:
    from mobile_multimodal.native import CaptionRecord

TokenCallback = Callable[[int, str, float], bool]


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


class CaptionStream(Iterator[CaptionPiece]):
    """Yields the pieces of one caption as the core writes them, on a thread of its own.

    After the last piece, `caption` is the whole. Closing early (or leaving the `with` block) cancels the rest.
    """

    def __init__(self, write: Callable[[TokenCallback], Caption]) -> None:
        self._events: queue.SimpleQueue[CaptionPiece | Caption | BaseException] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._caption: Caption | None = None
        self._finished = False
        # The thread holds the queue and the event, not the stream: an abandoned stream is collected, which cancels it.
        # It is no daemon: leaving the interpreter waits for the piece under way instead of tearing the core down in it.
        self._thread = threading.Thread(
            target=_write_events, args=(write, self._events, self._cancelled), name="mobile-mm-stream"
        )
        self._thread.start()

    @property
    def caption(self) -> Caption | None:
        """The whole caption; None until the stream has ended, and when it was closed early."""
        return self._caption

    def __iter__(self) -> CaptionStream:
        return self

    def __next__(self) -> CaptionPiece:
        if self._finished:
            raise StopIteration
        event = self._events.get()
        if isinstance(event, CaptionPiece):
            return event
        self._finished = True
        self._thread.join()
        if isinstance(event, BaseException):
            raise event
        if not isinstance(event, Caption):
            raise InternalError(f"a caption stream delivered {type(event).__name__}")
        self._caption = event
        raise StopIteration

    def close(self) -> None:
        """Stops the writing after the piece under way and waits for its thread; errors after this are dropped."""
        self._cancelled.set()
        self._finished = True
        self._thread.join()

    def __enter__(self) -> CaptionStream:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._cancelled.set()


def _write_events(
    write: Callable[[TokenCallback], Caption],
    events: queue.SimpleQueue[CaptionPiece | Caption | BaseException],
    cancelled: threading.Event,
) -> None:
    def receive(token: int, text: str, probability: float) -> bool:
        events.put(CaptionPiece(text=text, token=token, probability=probability))
        return not cancelled.is_set()

    try:
        events.put(write(receive))
    except BaseException as error:  # handed to the reader's thread, which raises it
        events.put(error)
