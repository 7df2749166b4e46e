"""Declares the bodies that OpenAI's clients send and read, as far as a picture model can serve them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from mobile_multimodal.serving.schemas import EXAMPLE_IMAGE, AnswerBody, RequestBody, Text
from mobile_multimodal.settings import MAX_STOP_STRINGS

MAX_INPUTS: Final = 64  # of one request for embeddings
_MAX_MESSAGES: Final = 256


class TextPart(RequestBody):
    """Words in a message."""

    type: Literal["text"]
    text: str = Field(max_length=65536)


class ImageAddress(RequestBody):
    """A picture in a message."""

    url: str = Field(min_length=1, description="a data URL; an https URL where the server was told to fetch some")
    detail: Literal["auto", "low", "high"] = Field(default="auto", description="has no effect: the model has one size")


class ImagePart(RequestBody):
    """A picture in a message."""

    type: Literal["image_url"]
    image_url: ImageAddress


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(RequestBody):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=65536)] | Annotated[list[Part], Field(max_length=64)]
    name: str | None = Field(default=None, max_length=256, description="has no effect")


class StreamOptions(RequestBody):
    """What a stream holds besides words."""

    include_usage: bool = False


class ChatRequest(RequestBody):
    """A question about one picture, or a request to describe or read it. See docs/serving.md for which is which."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "mobile-mm-llm-int2",
                    "messages": [
                        {
                            "role": "user",
                            "content": [
                                {"type": "text", "text": "Is there an animal?"},
                                {"type": "image_url", "image_url": {"url": EXAMPLE_IMAGE}},
                            ],
                        }
                    ],
                }
            ]
        }
    )

    model: str = Field(min_length=1, max_length=256)
    messages: list[ChatMessage] = Field(min_length=1, max_length=_MAX_MESSAGES)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, description="of a caption; the model has its own most")
    max_completion_tokens: int | None = Field(default=None, ge=1, description="the same under its newer name")
    temperature: float | None = Field(default=None, ge=0, le=2, description="of a caption")
    top_p: float | None = Field(default=None, gt=0, le=1, description="of a caption, with a temperature")
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    stop: str | Annotated[list[str], Field(max_length=MAX_STOP_STRINGS)] | None = None
    n: Literal[1] | None = Field(default=None, description="one answer a request")
    user: str | None = Field(default=None, max_length=512, description="has no effect, and is not logged")


class EmbeddingsRequest(RequestBody):
    """Places of texts, and of pictures as data URLs, in the space that both share."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "mobile-mm-llm-int2", "input": ["a dog on the beach", EXAMPLE_IMAGE]}]
        }
    )

    model: str = Field(min_length=1, max_length=256)
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1, description="refused where it is not the model's")
    user: str | None = Field(default=None, max_length=512, description="has no effect, and is not logged")


class OpenAIErrorDetails(AnswerBody):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(AnswerBody):
    error: OpenAIErrorDetails


class Usage(AnswerBody):
    """Tokens that were written; a picture and a question are not counted in tokens here."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(AnswerBody):
    role: Literal["assistant"]
    content: str


class ChatChoice(AnswerBody):
    index: int
    message: AssistantMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class ChatResponse(AnswerBody):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class EmbeddingItem(AnswerBody):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="numbers, or base64 of little-endian float32")


class EmbeddingsUsage(AnswerBody):
    """Both 0: tokens are not counted."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(AnswerBody):
    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingsUsage


class ModelCard(AnswerBody):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(AnswerBody):
    object: Literal["list"]
    data: list[ModelCard]
