"""Answers OpenAI's chat completions with a caption, the text or an answer, whole or as a stream."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mobile_multimodal.errors import MobileMultiModalError
from mobile_multimodal.serving.chat_intent import question_of
from mobile_multimodal.serving.documentation import ACCESS_STATUSES, BODY_STATUSES, WORK_STATUSES, answers, json_body
from mobile_multimodal.serving.http.client_connection import while_connected
from mobile_multimodal.serving.http.event_stream import event, event_response
from mobile_multimodal.serving.http.problems import openai_error_of
from mobile_multimodal.serving.http.request_body import BodyReader
from mobile_multimodal.serving.inference import Query, answer, check_model, deadline_of, stream
from mobile_multimodal.serving.openai_schemas import ChatRequest
from mobile_multimodal.serving.pictures.picture_input import picture_of
from mobile_multimodal.serving.services import Services, services_of
from mobile_multimodal.serving.workers.job import Job

router = APIRouter(tags=["openai"])

_PATH: Final = "/v1/chat/completions"
_BODY: Final[BodyReader[ChatRequest]] = BodyReader(ChatRequest, takes_form=False)
_ERRORS: Final = (*BODY_STATUSES, *ACCESS_STATUSES, *WORK_STATUSES)


@router.post(
    _PATH,
    responses=answers(_PATH, "ChatResponse", *_ERRORS, text_event_stream="chunks of chat.completion, then [DONE]"),
    openapi_extra=json_body("ChatRequest"),
)
async def complete_chat(request: Request) -> Response:
    """Describe, read or answer a question about one picture, for OpenAI's clients"""
    services = services_of(request)
    fields = (await _BODY.read(request)).fields
    check_model(services, fields.model)
    question = question_of(fields.messages)
    deadline = deadline_of(services, None)
    image = await picture_of(services, request, question.image, deadline=deadline)
    if question.intent == "describe":
        job = Job(task="caption", image=image, arguments=_caption_arguments(services, fields))
    elif question.intent == "read":
        job = Job(task="ocr", image=image)
    else:
        job = Job(task="ask", image=image, arguments={"question": question.text})
    query = Query(job=job, deadline=deadline)
    completion = _Completion(request, services.model.name)
    if fields.stream:
        return await _stream(services, request, query, completion, fields)
    outcome = await answer(services, request, query)
    return JSONResponse(completion.whole(outcome.value))


class _Completion:
    """Writes the objects of one answer, which share an id."""

    def __init__(self, request: Request, model: str) -> None:
        self._common = {"id": f"chatcmpl-{request.state.request_id}", "created": int(time.time()), "model": model}

    def whole(self, value: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": value["text"]}
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(value), "logprobs": None}
        return {**self._common, "object": "chat.completion", "choices": [choice], "usage": _usage(value)}

    def chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return {**self._common, "object": "chat.completion.chunk", "choices": [choice]}

    def usage(self, value: dict[str, Any]) -> dict[str, Any]:
        return {**self._common, "object": "chat.completion.chunk", "choices": [], "usage": _usage(value)}


def _caption_arguments(services: Services, fields: ChatRequest) -> dict[str, Any]:
    arguments: dict[str, Any] = {"num_beams": 1} if fields.stream else {}
    asked = fields.max_completion_tokens or fields.max_tokens
    if asked is not None:
        arguments["max_new_tokens"] = min(asked, services.facts.most_caption_tokens)
    for name in ("temperature", "top_p", "seed"):
        if (value := getattr(fields, name)) is not None:
            arguments[name] = value
    if fields.stop:
        arguments["stop"] = [fields.stop] if isinstance(fields.stop, str) else fields.stop
    return arguments


async def _stream(
    services: Services, request: Request, query: Query, completion: _Completion, fields: ChatRequest
) -> Response:
    pieces = _pieces(services, request, query)
    first = await while_connected(services, request, anext(pieces))

    async def events() -> AsyncGenerator[str, None]:
        piece: str | dict[str, Any] = first
        try:
            yield event(completion.chunk({"role": "assistant", "content": ""}))
            while isinstance(piece, str):
                yield event(completion.chunk({"content": piece}))
                piece = await anext(pieces)
            yield event(completion.chunk({}, _finish_reason(piece)))
            if fields.stream_options is not None and fields.stream_options.include_usage:
                yield event(completion.usage(piece))
            yield event("[DONE]")
        except MobileMultiModalError as error:
            request.state.error = error
            yield event(openai_error_of(error, request_id=request.state.request_id))
        finally:
            await pieces.aclose()

    return event_response(services, request, events())


async def _pieces(services: Services, request: Request, query: Query) -> AsyncGenerator[str | dict[str, Any], None]:
    """The words as they come, then the whole value. Text and answers come in one piece."""
    if query.job.task != "caption":
        outcome = await answer(services, request, query)
        yield outcome.value["text"]
        yield outcome.value
        return
    pieces = stream(services, request, query)
    try:
        async for piece in pieces:
            yield piece if isinstance(piece, str) else piece.value
    finally:
        await pieces.aclose()


def _finish_reason(value: dict[str, Any]) -> str:
    return "length" if value.get("finish_reason") == "length" else "stop"


def _usage(value: dict[str, Any]) -> dict[str, int]:
    written = len(value.get("tokens", ()))
    return {"prompt_tokens": 0, "completion_tokens": written, "total_tokens": written}
