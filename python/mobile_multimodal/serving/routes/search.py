"""Finds pictures of a gallery by words or by a picture, where the server was started with an index."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mobile_multimodal.errors import InvalidImageError, NotFoundError
from mobile_multimodal.serving.documentation import ACCESS_STATUSES, BODY_STATUSES, WORK_STATUSES, answers, json_body
from mobile_multimodal.serving.http.request_body import BodyReader
from mobile_multimodal.serving.inference import Query, answer, deadline_of
from mobile_multimodal.serving.pictures.picture_input import picture_of
from mobile_multimodal.serving.schemas import SearchRequest
from mobile_multimodal.serving.search_index import SearchIndex
from mobile_multimodal.serving.services import Services, services_of
from mobile_multimodal.serving.workers.job import Job

router = APIRouter(tags=["search"])

_PATH: Final = "/v1/search"
_BODY: Final[BodyReader[SearchRequest]] = BodyReader(SearchRequest)
_OPTIONS: Final = ("k", "folder", "since", "until")


def _index_of(services: Services) -> SearchIndex:
    if services.search is None:
        raise NotFoundError("this server has no index to search", "start it with `mobile-mm serve --index FOLDER`")
    return services.search


@router.post(
    _PATH,
    responses=answers(_PATH, "SearchResponse", *BODY_STATUSES, *ACCESS_STATUSES, *WORK_STATUSES),
    openapi_extra=json_body("SearchRequest", takes_form=True),
)
async def search(request: Request) -> Response:
    """Find the nearest pictures of the gallery"""
    services = services_of(request)
    index = _index_of(services)
    body = await _BODY.read(request)
    fields = body.fields
    deadline = deadline_of(services, fields.deadline_seconds)
    image = body.upload
    if image is None and fields.image is not None:
        image = await picture_of(services, request, fields.image, deadline=deadline)
    job = (
        Job(task="embed_text", arguments={"text": fields.query})
        if image is None
        else Job(task="embed_image", image=image)
    )
    outcome = await answer(services, request, Query(job=job, deadline=deadline))
    vector = np.asarray(outcome.value["embedding"], dtype=np.float32)
    results = await index.search(vector, {name: getattr(fields, name) for name in _OPTIONS})
    return JSONResponse({"id": request.state.request_id, "results": results, "timings": outcome.timings()})


@router.get(_PATH, responses=answers(_PATH, "SearchStatus", *ACCESS_STATUSES, 500))
async def search_status(request: Request) -> Any:
    """Show whether there is an index, and how many pictures are in it"""
    index = services_of(request).search
    return {"enabled": index is not None, "pictures": 0 if index is None else await index.count()}


@router.get(
    f"{_PATH}/thumbnails/{{picture_id}}",
    responses={
        **answers(_PATH, "Problem", 404, 500, *ACCESS_STATUSES),
        200: {"description": "Done", "content": {"image/jpeg": {}}},
    },
    openapi_extra={
        "parameters": [{"name": "picture_id", "in": "path", "required": True, "schema": {"type": "string"}}]
    },
)
async def thumbnail(request: Request) -> Response:
    """Show a small JPEG of a picture that a search found"""
    index = _index_of(services_of(request))
    try:
        content = await index.thumbnail(request.path_params["picture_id"])
    except InvalidImageError:
        raise NotFoundError("this picture cannot be read any more", "run `mobile-mm index` again") from None
    # An id names a path, whose picture may change: an hour is a visit.
    return Response(content, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})
