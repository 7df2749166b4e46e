"""Answers OpenAI's embeddings, of texts and of pictures as data URLs."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pybase64
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.serving.documentation import ACCESS_STATUSES, BODY_STATUSES, WORK_STATUSES, answers, json_body
from mobile_multimodal.serving.http.request_body import BodyReader
from mobile_multimodal.serving.inference import Query, answer_all, check_model, deadline_of
from mobile_multimodal.serving.openai_schemas import EmbeddingsRequest
from mobile_multimodal.serving.pictures.picture_input import is_url, picture_of
from mobile_multimodal.serving.services import Services, services_of
from mobile_multimodal.serving.workers.job import Job

router = APIRouter(tags=["openai"])

_PATH: Final = "/v1/embeddings"
_BODY: Final[BodyReader[EmbeddingsRequest]] = BodyReader(EmbeddingsRequest, takes_form=False)
_ERRORS: Final = (*BODY_STATUSES, *ACCESS_STATUSES, *WORK_STATUSES)


@router.post(
    _PATH, responses=answers(_PATH, "EmbeddingsResponse", *_ERRORS), openapi_extra=json_body("EmbeddingsRequest")
)
async def create_embeddings(request: Request) -> Response:
    """Place texts and pictures in the space that both share, for OpenAI's clients"""
    services = services_of(request)
    fields = (await _BODY.read(request)).fields
    check_model(services, fields.model)
    deadline = deadline_of(services, None)
    inputs = [fields.input] if isinstance(fields.input, str) else fields.input
    queries = [Query(job=await _job_of(services, request, entry, deadline), deadline=deadline) for entry in inputs]
    outcomes = await answer_all(services, request, queries)
    vectors = [outcome.value["embedding"] for outcome in outcomes]
    if fields.dimensions is not None and fields.dimensions != len(vectors[0]):
        raise InvalidInputError(
            f"dimensions is {fields.dimensions}, expected {len(vectors[0])}", "leave it out: a vector cannot be cut"
        )
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, fields.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    return JSONResponse({"object": "list", "data": data, "model": services.model.name, "usage": usage})


async def _job_of(services: Services, request: Request, entry: str, deadline: float) -> Job:
    if entry[:5].lower() == "data:" or (is_url(entry) and services.fetch is not None):
        return Job(task="embed_image", image=await picture_of(services, request, entry, deadline=deadline))
    return Job(task="embed_text", arguments={"text": entry})


def _encoded(vector: list[float], encoding_format: str) -> Any:
    if encoding_format == "float":
        return vector
    return pybase64.b64encode_as_string(np.asarray(vector, dtype="<f4").tobytes())
