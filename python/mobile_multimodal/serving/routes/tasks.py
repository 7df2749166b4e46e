"""Answers /v1/inference and the short routes of each task."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mobile_multimodal.errors import InvalidInputError, MobileMultiModalError
from mobile_multimodal.serving import schemas
from mobile_multimodal.serving.documentation import (
    ACCESS_STATUSES,
    BODY_STATUSES,
    WORK_STATUSES,
    answers,
    json_body,
)
from mobile_multimodal.serving.http.client_connection import while_connected
from mobile_multimodal.serving.http.event_stream import event, event_response
from mobile_multimodal.serving.http.problems import problem_of
from mobile_multimodal.serving.http.request_body import BodyReader
from mobile_multimodal.serving.inference import (
    Outcome,
    Query,
    answer,
    check_model,
    deadline_of,
    response_body,
    stream,
)
from mobile_multimodal.serving.pictures.picture_input import picture_of
from mobile_multimodal.serving.services import Services, services_of
from mobile_multimodal.serving.workers.job import Job

router = APIRouter(tags=["tasks"])

_ERRORS: Final = (*BODY_STATUSES, *ACCESS_STATUSES, *WORK_STATUSES)
_Handler = Callable[[Request], Awaitable[Response]]
_STREAM_WORDS: Final = (
    'with "stream": true: events `piece` {"text"}, then `result` (as application/json) or `error` (a problem)'
)


def _route(path: str, request_name: str, response_name: str, **media: str) -> Callable[[_Handler], _Handler]:
    return router.post(
        path,
        responses=answers(path, response_name, *_ERRORS, **media),
        openapi_extra=json_body(request_name, takes_form=True),
    )


@_route("/v1/inference", "InferenceRequest", "InferenceResponse", text_event_stream=_STREAM_WORDS)
async def infer(request: Request) -> Response:
    """Run a task on a picture: caption, ocr, vqa or embed"""
    return await _run(request, _INFERENCE)


@_route("/v1/caption", "CaptionRequest", "CaptionResponse", text_event_stream=_STREAM_WORDS)
async def caption(request: Request) -> Response:
    """Describe a picture in a sentence"""
    return await _run(request, _CAPTION)


@_route("/v1/ocr", "OcrRequest", "OcrResponse")
async def ocr(request: Request) -> Response:
    """Read the text in a picture"""
    return await _run(request, _OCR)


@_route("/v1/ask", "AskRequest", "AskResponse")
async def ask(request: Request) -> Response:
    """Answer a question about a picture, or choose among options"""
    return await _run(request, _ASK)


@_route("/v1/embed", "EmbedRequest", "EmbedResponse")
async def embed(request: Request) -> Response:
    """Place a picture, or a text, in the space that both share"""
    return await _run(request, _EMBED)


_INFERENCE: Final[BodyReader[schemas.AnyTaskRequest]] = BodyReader(schemas.InferenceRequest)
_CAPTION: Final[BodyReader[schemas.AnyTaskRequest]] = BodyReader(schemas.CaptionRequest)
_OCR: Final[BodyReader[schemas.AnyTaskRequest]] = BodyReader(schemas.OcrRequest)
_ASK: Final[BodyReader[schemas.AnyTaskRequest]] = BodyReader(schemas.AskRequest)
_EMBED: Final[BodyReader[schemas.AnyTaskRequest]] = BodyReader(schemas.EmbedRequest)


async def _run(request: Request, reader: BodyReader[schemas.AnyTaskRequest]) -> Response:
    services = services_of(request)
    query, is_stream = await _query_of(services, request, reader)
    if is_stream:
        return await _stream(services, request, query)
    outcome = await answer(services, request, query)
    return JSONResponse(response_body(services, request, query, outcome))


async def _query_of(
    services: Services, request: Request, reader: BodyReader[schemas.AnyTaskRequest]
) -> tuple[Query, bool]:
    """What is asked, and whether as a stream. The body itself is let go: it may be as large as the picture."""
    body = await reader.read(request)
    fields = body.fields
    check_model(services, fields.model)
    deadline = deadline_of(services, fields.deadline_seconds)
    image = body.upload
    if image is None and fields.image is not None:
        image = await picture_of(services, request, fields.image, deadline=deadline)
    is_stream = isinstance(fields, schemas.CaptionRequest) and fields.stream
    return Query(job=_job_of(fields, image), deadline=deadline), is_stream


def _job_of(fields: schemas.AnyTaskRequest, image: bytes | None) -> Job:
    chosen = fields.parameters.model_dump(exclude_unset=True)
    if isinstance(fields, schemas.CaptionRequest):
        if fields.stream:
            if chosen.get("num_beams", 1) not in (None, 1):
                raise InvalidInputError(
                    f"num_beams is {chosen['num_beams']} in a stream, expected 1: beams are known at the end only",
                    "drop num_beams, or stream",
                )
            chosen["num_beams"] = 1
        return Job(task="caption", image=image, arguments=chosen)
    if isinstance(fields, schemas.OcrRequest):
        return Job(task="ocr", image=image, arguments=chosen)
    if isinstance(fields, schemas.AskRequest):
        if fields.options is None:
            return Job(task="ask", image=image, arguments={"question": fields.question, **chosen})
        if chosen:
            raise InvalidInputError("top_k stands beside options, expected one of them", "drop top_k")
        return Job(task="choose", image=image, arguments={"question": fields.question, "options": fields.options})
    if image is None:
        return Job(task="embed_text", arguments={"text": fields.text})
    return Job(task="embed_image", image=image)


async def _stream(services: Services, request: Request, query: Query) -> Response:
    pieces = stream(services, request, query)
    # The first piece comes before the header goes: what fails until then is answered with its own status.
    first = await while_connected(services, request, anext(pieces))

    async def events() -> AsyncGenerator[str, None]:
        try:
            yield _event_of(services, request, query, first)
            async for piece in pieces:
                yield _event_of(services, request, query, piece)
        except MobileMultiModalError as error:
            request.state.error = error
            yield event(problem_of(error, instance=request.url.path, request_id=request.state.request_id), name="error")
        finally:
            await pieces.aclose()

    return event_response(services, request, events())


def _event_of(services: Services, request: Request, query: Query, piece: str | Outcome) -> str:
    if isinstance(piece, str):
        return event({"text": piece}, name="piece")
    return event(response_body(services, request, query, piece), name="result")
