"""Decides what a chat asks of a picture: to describe it, to read it, or to answer a question about it.

The rule, in this order, on the words of the last message of the user:
1. no words                                                        -> describe
2. "OCR", or to read, transcribe or extract text or what it says   -> read
3. to describe or caption it, or what is in, or shown in, a picture -> describe
4. anything else                                                   -> the words are the question
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.serving.openai_schemas import ChatMessage, ImagePart

Intent = Literal["describe", "read", "answer"]

_PICTURE: Final = r"(?:image|picture|photo|photograph|screenshot|scan|page|document|receipt)"
_READ: Final = re.compile(
    r"\bocr\b"
    r"|^\W*(?:please\s+|can you\s+|could you\s+)?(?:read|transcribe)\b"
    r"|\b(?:read|transcribe|extract|recogni[sz]e|copy)\b.{0,40}\b(?:text|words|writing|letters)\b"
    rf"|\bwhat\s+(?:does|do)\s+(?:it|this|that|the\s+{_PICTURE})\s+say\b"
    rf"|\bwhat\s+(?:text|is\s+written|words)\b.{{0,30}}\b{_PICTURE}\b",
    re.IGNORECASE | re.DOTALL,
)
_DESCRIBE: Final = re.compile(
    r"\b(?:describe|caption)\b"
    rf"|\bwhat(?:'s|’s|\s+is|\s+do\s+you\s+see|\s+can\s+you\s+see)?\s+(?:shown\s+)?(?:in|on)\s+(?:this|the|that)\s+{_PICTURE}\b"
    rf"|\bwhat\s+does\s+(?:this|the|that)\s+{_PICTURE}\s+show\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class ChatQuestion:
    """What a chat asks, and of which picture: a data URL or a URL."""

    intent: Intent
    text: str
    image: str


def intent_of(text: str) -> Intent:
    """What these words ask for."""
    if not text.strip():
        return "describe"
    if _READ.search(text):
        return "read"
    if _DESCRIBE.search(text):
        return "describe"
    return "answer"


def question_of(messages: list[ChatMessage]) -> ChatQuestion:
    """What a conversation asks: the words of its last message of the user, the one picture of them all.

    Raises InvalidInputError (no message of the user, no picture, several pictures). What the system and the assistant
    said is left out: this model cannot be instructed.
    """
    asked = next((message for message in reversed(messages) if message.role == "user"), None)
    if asked is None:
        raise InvalidInputError("the messages have none of role 'user', expected one", "add one with a picture")
    images = [
        part.image_url.url
        for message in messages
        if not isinstance(message.content, str)
        for part in message.content
        if isinstance(part, ImagePart)
    ]
    if len(images) != 1:
        hint = "send one picture" if images else "add a part {'type': 'image_url', 'image_url': {'url': 'data:...'}}"
        raise InvalidInputError(f"the messages have {len(images)} pictures, expected one", hint)
    text = (
        asked.content
        if isinstance(asked.content, str)
        else "\n".join(part.text for part in asked.content if not isinstance(part, ImagePart))
    )
    return ChatQuestion(intent=intent_of(text), text=text.strip(), image=images[0])
