"""Holds written text, and checks prompts before the core sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.tasks.caption import geometric_mean
from mobile_multimodal.tasks.piece_stream import PieceStream, TokenCallback

if TYPE_CHECKING:
    from mobile_multimodal.native import GeneratedTextRecord

TEXT_PROGRAMS: Final = ("decode_text",)
ROLES: Final = ("system", "user", "assistant")
MAX_PROMPT_BYTES: Final = 1 << 20  # the core's bound on one text; contexts end far below
# A text, or the messages of a conversation: {"role": ..., "content": ...} or (role, content).
Prompt = str | Sequence[Mapping[str, str] | tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class GeneratedText:
    """What a model wrote; `str()` of it is the text.

    text                 what was written, without the prompt
    confidence           geometric mean of token_probabilities, 0 to 1: how sure the model was of its words on
                         average. It is not the probability that the text is true.
    tokens               ids of the pieces, the end token left out
    token_probabilities  the probability of each piece, given those before it; with finish_reason "end", a last one
                         for ending there
    finish_reason        "end" (the model ended it), "length" (max_new_tokens, or the context is full), "stop" (a stop
                         string), "cancelled"
    prompt_tokens        tokens of the prompt, the chat template's included
    cached_tokens        of these, so many were at hand from the call before
    timings              milliseconds: encode, prefill, first_token, decode, total
    """

    text: str
    confidence: float
    tokens: tuple[int, ...]
    token_probabilities: tuple[float, ...]
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int = field(compare=False)
    timings: dict[str, float] = field(compare=False)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        return asdict(self) | {"tokens": list(self.tokens), "token_probabilities": list(self.token_probabilities)}


def text_from_record(record: GeneratedTextRecord) -> GeneratedText:
    """The public form of what the core returns."""
    return GeneratedText(
        text=record["text"],
        confidence=geometric_mean(record["token_probabilities"]),
        tokens=tuple(record["tokens"]),
        token_probabilities=tuple(record["token_probabilities"]),
        finish_reason=record["finish_reason"],
        prompt_tokens=record["prompt_tokens"],
        cached_tokens=record["cached_tokens"],
        timings=dict(record["timings"]),
    )


@dataclass(frozen=True, kw_only=True)
class TextPiece:
    """What one token added to a text; `str()` of it is that text."""

    text: str
    token: int
    probability: float

    def __str__(self) -> str:
        return self.text


class TextStream(PieceStream[TextPiece, GeneratedText]):
    """Yields the pieces of a text as the core writes them, on a thread of its own.

    After the last piece, `generated` is the whole. Closing early (or leaving the `with` block) cancels the rest.
    """

    def __init__(self, write: Callable[[TokenCallback], GeneratedText]) -> None:
        super().__init__(
            write, lambda text, token, probability: TextPiece(text=text, token=token, probability=probability)
        )

    @property
    def generated(self) -> GeneratedText | None:
        """The whole text; None until the stream has ended, and when it was closed early."""
        return self._whole


def check_prompt(prompt: object) -> str | list[tuple[str, str]]:
    """A text that is not empty, or the roles and contents of at least one message."""
    if isinstance(prompt, str):
        if not prompt:
            raise InvalidInputError("the prompt is empty, expected at least one character", "write one")
        return _checked_text("the prompt", prompt)
    if isinstance(prompt, (bytes, bytearray)) or not isinstance(prompt, Sequence) or not prompt:
        raise InvalidInputError(
            f"the prompt is {prompt!r:.100}, expected a string or messages",
            'for example [{"role": "user", "content": "Hello"}]',
        )
    return [_checked_message(index, message) for index, message in enumerate(prompt)]


def _checked_message(index: int, message: object) -> tuple[str, str]:
    if isinstance(message, Mapping) and set(message) == {"role", "content"}:
        role, content = message["role"], message["content"]
    elif isinstance(message, tuple) and len(message) == 2:
        role, content = message
    else:
        raise InvalidInputError(
            f"message {index} is {message!r:.100}, expected a role and a content",
            'for example {"role": "user", "content": "Hello"}',
        )
    if role not in ROLES:
        raise InvalidInputError(f"message {index} has the role {role!r:.100}", f"roles are {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise InvalidInputError(
            f"message {index} has a content of type {type(content).__name__}, expected a string", "pass a string"
        )
    return str(role), _checked_text(f"message {index}", content)


def _checked_text(what: str, text: str) -> str:
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{what} holds half of a surrogate pair at place {error.start}, which is no character", "decode it anew"
        ) from error
    if size > MAX_PROMPT_BYTES:
        raise InvalidInputError(f"{what} has {size} bytes, expected at most {MAX_PROMPT_BYTES}", "shorten it")
    return text
