"""Declares the bodies of requests and answers: what is checked, and what the OpenAPI document shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mobile_multimodal.gallery.searching import MAX_RESULTS
from mobile_multimodal.settings import (
    MAX_BEAMS,
    MAX_DEADLINE_SECONDS,
    MAX_NEW_TOKENS,
    MAX_STOP_STRINGS,
)
from mobile_multimodal.tasks.language import MAX_ANSWERS, MAX_OPTIONS, MAX_TEXT_BYTES, MIN_OPTIONS

# One red pixel as PNG: an example that runs as it stands.
EXAMPLE_IMAGE: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
_EXAMPLE_ID: Final = "0d0a5f1e9c5b4f0f8f6f2b7a3c1d9e42"
_EXAMPLE_VERSION: Final = "9f2c4e0b6a1d7c3e5f8a9b0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f40"


class RequestBody(BaseModel):
    """Refuses fields that it does not know: a misspelt one would be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


Image = Annotated[
    str,
    Field(
        min_length=1,
        description="the picture file as base64 or as a data URL; an https URL where the server was told to fetch some",
        examples=[EXAMPLE_IMAGE],
    ),
]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_BYTES, pattern=r"\S")]


class TaskRequest(RequestBody):
    """What every task takes."""

    model: str | None = Field(default=None, description="refused when it is not the one that is served")
    deadline_seconds: float | None = Field(
        default=None,
        gt=0,
        le=MAX_DEADLINE_SECONDS,
        description="answer 504 after this long, waiting included; the server has a default and a maximum",
    )


class CaptionParameters(RequestBody):
    """How a caption is searched for; what is left out is the model's own."""

    num_beams: int | None = Field(default=None, ge=1, le=MAX_BEAMS, description="1 is greedy")
    max_new_tokens: int | None = Field(default=None, ge=1, le=MAX_NEW_TOKENS)
    length_penalty: float | None = Field(default=None, ge=-4, le=4)
    temperature: float = Field(default=0.0, ge=0, le=10, description="above 0 draws words at random")
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    stop: list[Annotated[str, Field(min_length=1, max_length=1024)]] = Field(
        default_factory=list, max_length=MAX_STOP_STRINGS, description="the caption ends before the first of these"
    )


class OcrParameters(RequestBody):
    """How text is looked for and read."""

    max_side: int = Field(default=960, ge=32, le=4096, description="the longer side is scaled down to this")
    threshold: float = Field(default=0.2, ge=0.01, le=0.99, description="a pixel is text above this probability")
    box_threshold: float = Field(default=0.4, ge=0.01, le=0.99, description="a box is read from this probability on")
    unclip_ratio: float = Field(default=1.4, ge=0, le=10, description="boxes grow by area * ratio / perimeter")
    max_boxes: int = Field(default=3000, ge=1, le=100_000)
    min_confidence: float = Field(default=0.5, ge=0, le=1, description="leave out lines below")
    batch_lines: int = Field(default=8, ge=1, le=64)


class AskParameters(RequestBody):
    """How a question is answered."""

    top_k: int = Field(default=5, ge=1, le=MAX_ANSWERS, description="so many alternatives; not with options")


class EmbedParameters(RequestBody):
    """An embedding has nothing to choose."""


class CaptionRequest(TaskRequest):
    """A sentence about a picture."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": EXAMPLE_IMAGE}]})

    image: Image
    parameters: CaptionParameters = Field(default_factory=CaptionParameters)
    stream: bool = Field(default=False, description="send words as they are written, as server-sent events")


class OcrRequest(TaskRequest):
    """The text in a picture."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": EXAMPLE_IMAGE}]})

    image: Image
    parameters: OcrParameters = Field(default_factory=OcrParameters)


class AskRequest(TaskRequest):
    """The answer to a question about a picture, or the best of some options."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image": EXAMPLE_IMAGE, "question": "Is there an animal?"}]}
    )

    image: Image
    question: Text
    options: list[Text] | None = Field(
        default=None, min_length=MIN_OPTIONS, max_length=MAX_OPTIONS, description="choose among these, each once"
    )
    parameters: AskParameters = Field(default_factory=AskParameters)


def _exactly_one(*names: str, examples: list[dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    """Says in the document that exactly one of the fields stands there."""

    def change(schema: dict[str, Any]) -> None:
        for name in names:
            properties = schema["properties"][name]
            properties.pop("default", None)
            kinds = properties.pop("anyOf", [{}])
            properties |= kinds[0]  # null says nothing that leaving it out does not
        schema["oneOf"] = [{"required": [name]} for name in names]
        schema["examples"] = examples

    return change


class EmbedRequest(TaskRequest):
    """The place of a picture, or of a text, in the space that both share."""

    model_config = ConfigDict(
        json_schema_extra=_exactly_one(
            "image", "text", examples=[{"image": EXAMPLE_IMAGE}, {"text": "a dog on the beach"}]
        )
    )

    image: Image | None = None
    text: Text | None = None
    parameters: EmbedParameters = Field(default_factory=EmbedParameters)

    @model_validator(mode="after")
    def _has_one(self) -> EmbedRequest:
        if (self.image is None) == (self.text is None):
            raise ValueError("expected either image or text")
        return self


class InferenceCaptionRequest(CaptionRequest):
    """The task caption of /v1/inference."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"task": "caption", "image": EXAMPLE_IMAGE}]})
    task: Literal["caption"]


class InferenceOcrRequest(OcrRequest):
    """The task ocr of /v1/inference."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"task": "ocr", "image": EXAMPLE_IMAGE}]})
    task: Literal["ocr"]


class InferenceVqaRequest(AskRequest):
    """The task vqa of /v1/inference."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"task": "vqa", "image": EXAMPLE_IMAGE, "question": "Is there an animal?"}]}
    )
    task: Literal["vqa"]


class InferenceEmbedRequest(EmbedRequest):
    """The task embed of /v1/inference."""

    model_config = ConfigDict(
        json_schema_extra=_exactly_one("image", "text", examples=[{"task": "embed", "text": "a dog on the beach"}])
    )
    task: Literal["embed"]


AnyTaskRequest = CaptionRequest | OcrRequest | AskRequest | EmbedRequest
InferenceRequest = Annotated[
    InferenceCaptionRequest | InferenceOcrRequest | InferenceVqaRequest | InferenceEmbedRequest,
    Field(discriminator="task"),
]


class SearchRequest(RequestBody):
    """Pictures of the gallery by words or by a picture."""

    model_config = ConfigDict(
        json_schema_extra=_exactly_one("query", "image", examples=[{"query": "a dog on the beach", "k": 5}])
    )

    query: Text | None = Field(default=None, description="what the pictures show, in words")
    image: Image | None = None
    k: int = Field(default=10, ge=1, le=MAX_RESULTS, description="at most this many")
    folder: str | None = Field(default=None, min_length=1, max_length=4096, description="below this folder of it")
    since: str | None = Field(default=None, description="taken on or after: YYYY, YYYY-MM or YYYY-MM-DD")
    until: str | None = Field(default=None, description="taken on or before, the same way")
    deadline_seconds: float | None = Field(default=None, gt=0, le=MAX_DEADLINE_SECONDS)

    @model_validator(mode="after")
    def _has_one(self) -> SearchRequest:
        if (self.query is None) == (self.image is None):
            raise ValueError("expected either query or image")
        return self


class AnswerBody(BaseModel):
    """An answer says what it holds and nothing else: tests hold it against this."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class CaptionResult(AnswerBody):
    text: str
    confidence: float = Field(description="geometric mean of the words' probabilities")
    tokens: list[int]
    token_probabilities: list[float]
    finish_reason: Literal["end", "length", "stop", "cancelled"]
    timings: dict[str, float] = Field(description="milliseconds in the core")


class OcrLineResult(AnswerBody):
    text: str
    box: list[list[float]] = Field(description="four corners (x, y) in pixels, clockwise from the upper left")
    confidence: float
    character_confidences: list[float]


class OcrResult(AnswerBody):
    text: str = Field(description="the lines in reading order")
    confidence: float | None = Field(description="mean of the lines'; null without any")
    lines: list[OcrLineResult]
    dropped_boxes: int
    timings: dict[str, float]


class Alternative(AnswerBody):
    text: str
    probability: float


class AnswerResult(AnswerBody):
    text: str
    confidence: float
    alternatives: list[Alternative]
    unanswerable: float = Field(description="probability that the picture does not tell")
    timings: dict[str, float]


class ChoiceResult(AnswerBody):
    text: str = Field(description="the likeliest option")
    confidence: float
    probabilities: dict[str, float] = Field(description="of every option; they sum to 1")


class EmbeddingResult(AnswerBody):
    embedding: list[float] = Field(description="a unit vector")
    dimensions: int


class Timings(AnswerBody):
    queue_milliseconds: float
    inference_milliseconds: float
    total_milliseconds: float


class TaskResponse(AnswerBody):
    """What every task answers."""

    id: str = Field(description="the request's id", examples=[_EXAMPLE_ID])
    model: str = Field(examples=["mobile-mm-llm-int2"])
    model_version: str = Field(description="SHA-256 of the model file", examples=[_EXAMPLE_VERSION])
    cached: bool = Field(description="whether the answer was at hand")
    timings: Timings


class CaptionResponse(TaskResponse):
    task: Literal["caption"]
    result: CaptionResult


class OcrResponse(TaskResponse):
    task: Literal["ocr"]
    result: OcrResult


class AskResponse(TaskResponse):
    task: Literal["vqa"]
    result: AnswerResult | ChoiceResult


class EmbedResponse(TaskResponse):
    task: Literal["embed"]
    result: EmbeddingResult


InferenceResponse = Annotated[CaptionResponse | OcrResponse | AskResponse | EmbedResponse, Field(discriminator="task")]


class SearchHit(AnswerBody):
    path: str = Field(description="relative to the gallery's folder")
    score: float = Field(description="cosine, -1 to 1")
    taken: str = Field(description="local time of the camera, or of the file's last change")
    thumbnail: str = Field(description="address of a small JPEG on this server")


class SearchResponse(AnswerBody):
    id: str
    results: list[SearchHit]
    timings: Timings


class SearchStatus(AnswerBody):
    enabled: bool
    pictures: int


class Problem(AnswerBody):
    """RFC 9457, with the next step and the request's id."""

    type: str = Field(examples=["urn:mobile-mm:problem:queue-full"])
    title: str
    status: int
    detail: str
    hint: str
    instance: str
    request_id: str


class Health(AnswerBody):
    status: Literal["ok", "unavailable"]
    checks: dict[str, Any]


class Stats(BaseModel):
    """What the server has done since it started; further members may come."""

    version: str
    uptime_seconds: float
    is_ready: bool
    model: dict[str, Any]
    requests: dict[str, int]
    queue: dict[str, int]
    workers: list[dict[str, Any]]
    tasks: dict[str, dict[str, float]]
    cache: dict[str, dict[str, int]]
