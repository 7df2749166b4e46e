"""Holds what a caller may choose about written text: frozen, checked when made, refusing what it does not know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypedDict

from mobile_multimodal.settings import (
    MAX_DEADLINE_SECONDS,
    check_drawing,
    check_integer,
    check_number,
    checked_stop,
)

MAX_TEXT_TOKENS: Final = 65536  # the core's bound on a context


class TextOptions(TypedDict, total=False):
    """The keywords of `generate_text` and `stream_text`; see TextSettings."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    stop: tuple[str, ...] | list[str] | str
    deadline_seconds: float


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """How a text is written.

    max_new_tokens      at most this many tokens; a text that fills the model's context ends there too
    temperature         0 takes the likeliest token; above, tokens are drawn from probabilities ** (1 / temperature)
    top_k               drawing is limited to so many of the likeliest tokens; 0 is all
    top_p               drawing is limited to the likeliest tokens that sum to this
    min_p               drawing leaves out tokens below this share of the likeliest one's probability
    repetition_penalty  logits of tokens that occurred are divided by it (multiplied below 0); 1 is none
    seed                the same seed, prompt and model file draw the same tokens
    stop                the text ends before the first of these strings
    deadline_seconds    DeadlineExceededError after this long; 0 is no deadline
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    deadline_seconds: float = 0.0

    def __post_init__(self) -> None:
        check_integer("max_new_tokens", self.max_new_tokens, 1, MAX_TEXT_TOKENS)
        check_drawing(self.temperature, self.top_p, self.seed)
        check_integer("top_k", self.top_k, 0, 1 << 20)
        check_number("min_p", self.min_p, 0.0, 1.0)
        check_number("repetition_penalty", self.repetition_penalty, 0.1, 10.0)
        object.__setattr__(self, "stop", checked_stop(self.stop))
        check_number("deadline_seconds", self.deadline_seconds, 0.0, MAX_DEADLINE_SECONDS)
