"""Answers OpenAI's list of models with the one that is served."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request

from mobile_multimodal.serving.documentation import ACCESS_STATUSES, answers
from mobile_multimodal.serving.inference import check_model
from mobile_multimodal.serving.services import services_of

router = APIRouter(tags=["openai"])

_PATH: Final = "/v1/models"
_ERRORS: Final = (*ACCESS_STATUSES, 500, 503)


@router.get(_PATH, responses=answers(_PATH, "ModelList", *_ERRORS))
async def list_models(request: Request) -> Any:
    """List the model that is served, for OpenAI's clients"""
    return {"object": "list", "data": [_card(request)]}


@router.get(
    f"{_PATH}/{{model}}",
    responses=answers(_PATH, "ModelCard", 404, *_ERRORS),
    openapi_extra={"parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]},
)
async def retrieve_model(request: Request) -> Any:
    """Show the model that is served, for OpenAI's clients"""
    check_model(services_of(request), request.path_params["model"])
    return _card(request)


def _card(request: Request) -> dict[str, Any]:
    # A model file has no date of its own inside.
    model = services_of(request).model
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "mobile-multimodal"}
