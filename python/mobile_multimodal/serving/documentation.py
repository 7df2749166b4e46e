"""Builds the OpenAPI document: bodies in both types, every answer and every error, with examples."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from mobile_multimodal import __version__
from mobile_multimodal.serving import openai_schemas, schemas
from mobile_multimodal.serving.http.problems import is_openai_path

_PLACE: Final = "#/components/schemas/"
_REFERENCE: Final = f"{_PLACE}{{model}}"
_DESCRIPTION: Final = (
    "One small file that sees: captions, text, answers and embeddings of pictures. "
    "Errors are application/problem+json (RFC 9457) with the request's id; on the addresses that OpenAI's clients use "
    "they have OpenAI's shape."
)
_MEANING_OF_STATUS: Final[dict[int, str]] = {
    400: "The body is not what its type says, the image is no base64, or settings exclude each other",
    401: "No key or token, or one that is not valid",
    403: "Known, but not allowed; or sent by another web page",
    404: "No such address, or the model asked for is not the one served",
    405: "The address does not take this method",
    408: "The body did not arrive in time",
    413: "The body or the picture is too large",
    415: "The body, or the picture in it, is of a type that is not taken",
    422: "Fields that are missing, unknown or out of bounds, or an image that is no readable picture",
    429: "This caller has asked too often: come back after Retry-After seconds",
    500: "A fault of the server",
    501: "The model cannot do this",
    503: "The queue is full, the server is stopping, or a worker died: come back after Retry-After seconds",
    504: "The deadline passed",
}
ACCESS_STATUSES: Final = (401, 403, 429)
BODY_STATUSES: Final = (400, 408, 413, 415, 422)
WORK_STATUSES: Final = (404, 500, 501, 503, 504)
_UNIONS: Final[dict[str, Any]] = {
    "InferenceRequest": schemas.InferenceRequest,
    "InferenceResponse": schemas.InferenceResponse,
}


def json_body(name: str, *, takes_form: bool = False) -> dict[str, Any]:
    """openapi_extra of a route whose body is the schema of this name; its form has the picture as a file."""
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=name)}}}
    if takes_form:
        content["multipart/form-data"] = {
            "schema": {"$ref": _REFERENCE.format(model=f"{name}Form")},
            "encoding": {"parameters": {"contentType": "application/json"}},
        }
    return {"requestBody": {"required": True, "content": content}}


def answers(path: str, name: str, *error_statuses: int, **media: str) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: 200 with the schema of this name, and errors in the shape of the route's address.

    media  further descriptions of 200 by media type, `_` for / : text_event_stream
    """
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=name)}}}
    for media_type, description in media.items():
        content[media_type.replace("_", "/", 1).replace("_", "-")] = {
            "schema": {"type": "string", "description": description}
        }
    found: dict[int | str, dict[str, Any]] = {200: {"description": "Done", "content": content}}
    error_type, error_name = (
        ("application/json", "OpenAIError") if is_openai_path(path) else ("application/problem+json", "Problem")
    )
    for status in error_statuses:
        found[status] = {
            "description": _MEANING_OF_STATUS[status],
            "content": {error_type: {"schema": {"$ref": _REFERENCE.format(model=error_name)}}},
        }
        if status in (429, 503):
            found[status]["headers"] = {
                "Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}
            }
    return found


def openapi_of(app: FastAPI, *, needs_access: bool) -> dict[str, Any]:
    """The document of an app."""
    document = get_openapi(
        title="mobile-multimodal",
        version=__version__,
        description=_DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    components["schemas"] = _used(_schemas(), document["paths"])
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                response.setdefault("headers", {})["X-Request-Id"] = {"$ref": "#/components/headers/RequestId"}
    components["headers"] = {"RequestId": {"description": "the request's id", "schema": {"type": "string"}}}
    if needs_access:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "an API key or a signed token"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        for path, operations in document["paths"].items():
            if path.startswith("/v1/"):
                for operation in operations.values():
                    operation["security"] = [{"bearer": []}, {"key": []}]
    return document


def _schemas() -> dict[str, Any]:
    found: dict[str, Any] = {}
    named = [
        *_UNIONS.items(),
        *((kind.__name__, kind) for module in (schemas, openai_schemas) for kind in _models_in(module)),
    ]
    for name, kind in named:
        schema = TypeAdapter(kind).json_schema(ref_template=_REFERENCE, mode="validation")
        found |= schema.pop("$defs", {})
        found[name] = schema
    for name in [name for name in found if name.endswith("Request") and "image" in found[name].get("properties", {})]:
        found[f"{name}Form"] = _form_of(found[name])
    inference = found["InferenceRequest"]
    found["InferenceRequestForm"] = {
        "oneOf": [{"$ref": f"{entry['$ref']}Form"} for entry in inference["oneOf"]],
        "discriminator": {
            "propertyName": "task",
            "mapping": {task: f"{place}Form" for task, place in inference["discriminator"]["mapping"].items()},
        },
    }
    return found


def _used(schemas: dict[str, Any], start: Any) -> dict[str, Any]:
    """Those schemas that something refers to, by way of others too."""
    found: dict[str, Any] = {}
    waiting = [start]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, str) and value.startswith(_PLACE):
            name = value.removeprefix(_PLACE)
            if name not in found:
                found[name] = schemas[name]
                waiting.append(schemas[name])
    return dict(sorted(found.items()))


def _models_in(module: Any) -> list[type[BaseModel]]:
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return [kind for kind in kinds if kind.__module__ == module.__name__]


def _form_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a form: the picture is a file, and no example, because a file is not text."""
    properties = dict(schema["properties"])
    properties["image"] = {
        "type": "string",
        "contentMediaType": "application/octet-stream",
        "description": "the picture file",
    }
    form = {key: value for key, value in schema.items() if key != "examples"}
    return form | {"properties": properties, "title": f"{schema['title']}Form"}
