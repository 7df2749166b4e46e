"""Holds answers to questions about a picture, and checks texts, options and vectors before the core sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.tasks.latency_budget import BudgetOutcome, with_budget

if TYPE_CHECKING:
    from mobile_multimodal.native import AnswerRecord

Vector = NDArray[np.float32]

ANSWER_PROGRAMS: Final = ("encode_image", "prepare_question", "answer_question")
EMBED_IMAGE_PROGRAMS: Final = ("encode_image", "embed_image")
EMBED_TEXT_PROGRAMS: Final = ("embed_text",)
MAX_ANSWERS: Final = 100  # the core's bounds
MIN_OPTIONS: Final = 2
MAX_OPTIONS: Final = 64
MAX_TEXT_BYTES: Final = 65536


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model says to a question about a picture; `str()` of it is the likeliest answer.

    text          the likeliest answer of the model's own list
    confidence    its probability among all answers, `unanswerable` included: how sure the model is, 0 to 1
    alternatives  the likeliest answers with their probabilities, best first; the first is the answer itself
    unanswerable  the probability that the picture does not tell; it is never given as the answer
    timings       milliseconds: resize, encode, prepare, answer, total; what a call before left at hand costs nothing
    budget        how a latency budget went; None for a call without one
    """

    text: str
    confidence: float
    alternatives: tuple[tuple[str, float], ...]
    unanswerable: float
    timings: dict[str, float] = field(compare=False)
    budget: BudgetOutcome | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON; `budget` where the call had one."""
        alternatives = [{"text": text, "probability": probability} for text, probability in self.alternatives]
        return with_budget(asdict(self) | {"alternatives": alternatives})


def answer_from_record(record: AnswerRecord, budget: BudgetOutcome | None = None) -> Answer:
    """The public form of what the core returns."""
    candidates = tuple((text, probability) for text, probability in record["candidates"])
    return Answer(
        text=candidates[0][0],
        confidence=candidates[0][1],
        alternatives=candidates,
        unanswerable=record["unanswerable"],
        timings=dict(record["timings"]),
        budget=budget,
    )


def check_text(what: str, value: object) -> str:
    """Refuses what is no text, has no character but spaces, or is longer than the core reads."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} is of type {type(value).__name__}, expected a string", "pass a string")
    if not value.strip():
        raise InvalidInputError(f"{what} is empty, expected at least one word", "write one")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{what} holds half of a surrogate pair at place {error.start}, which is no character", "decode it anew"
        ) from error
    if size > MAX_TEXT_BYTES:
        raise InvalidInputError(
            f"{what} has {size} bytes, expected at most {MAX_TEXT_BYTES}", "the model reads a few sentences at most"
        )
    return value


def check_options(options: object) -> list[str]:
    """Refuses anything but 2 to 64 different texts."""
    if isinstance(options, (str, bytes)) or not isinstance(options, Sequence):
        raise InvalidInputError(
            f"options is of type {type(options).__name__}, expected a list of strings", "for example ['yes', 'no']"
        )
    if not MIN_OPTIONS <= len(options) <= MAX_OPTIONS:
        raise InvalidInputError(
            f"options has {len(options)} entries, expected {MIN_OPTIONS} to {MAX_OPTIONS}", "choose among fewer or more"
        )
    texts = [check_text(f"option {index}", option) for index, option in enumerate(options)]
    for index, option in enumerate(texts):
        if option in texts[:index]:
            raise InvalidInputError(f"option {option!r} is given twice", "name each option once")
    return texts


def is_vector(value: object) -> bool:
    """Whether a value is an embedding rather than a picture: a one-dimensional array of floats."""
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind == "f"


def cosine(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float:
    """a . b / (|a| |b|), -1 to 1."""
    if a.shape != b.shape:
        raise InvalidInputError(
            f"vectors of {a.size} and {b.size} numbers have no similarity", "embed both with the same model"
        )
    first, second = a.astype(np.float64), b.astype(np.float64)
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    if not (np.isfinite(length) and length > 0):
        raise InvalidInputError("a vector of zeros or without numbers has no direction", "pass embeddings")
    return float(np.clip(first @ second / length, -1.0, 1.0))
