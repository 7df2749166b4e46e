"""Turns an error into an answer: problem+json (RFC 9457) with the request's id, or OpenAI's shape on its routes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from starlette.responses import Response
from starlette.types import Scope

from mobile_multimodal.errors import (
    AccessError,
    DrainingError,
    InternalError,
    InvalidInputError,
    MobileMultiModalError,
    PermissionDeniedError,
    QueueFullError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
    http_status_of,
)

PROBLEM_PREFIX: Final = "urn:mobile-mm:problem:"
OPENAI_PREFIXES: Final = ("/v1/chat/completions", "/v1/embeddings", "/v1/models")


class HttpError(MobileMultiModalError):
    """A request that HTTP itself forbids; `status` is its own."""

    status: ClassVar[int] = 400


class MalformedBodyError(HttpError):
    """The body is not what its type says."""


class RouteNotFoundError(HttpError):
    """No such address on this server."""

    status = 404


class MethodNotAllowedError(HttpError):
    """The address does not take this method."""

    status = 405


class BodyTimeoutError(HttpError):
    """The body did not arrive in time."""

    status = 408


class BodyTooLargeError(HttpError):
    """The body is larger than the server takes."""

    status = 413


class UnsupportedMediaTypeError(HttpError):
    """The body, or the picture in it, is of a type that is not taken."""

    status = 415


class SchemaError(HttpError):
    """The body is well formed, and its fields are not those of the request."""

    status = 422


_OPENAI_TYPE_OF_STATUS: Final[dict[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_REASON_OF_REJECTION: Final[tuple[tuple[type[MobileMultiModalError], str], ...]] = (
    (QueueFullError, "queue_full"),
    (DrainingError, "draining"),
    (RateLimitedError, "rate_limited"),
    (UnauthenticatedError, "unauthenticated"),
    (PermissionDeniedError, "forbidden"),
    (AccessError, "forbidden"),
)


def status_of(error: BaseException) -> int:
    """The HTTP status of an error."""
    return error.status if isinstance(error, HttpError) else http_status_of(error)


def name_of(error: BaseException) -> str:
    """The error's name in a problem's type and in metrics: QueueFullError is queue-full."""
    known = error if isinstance(error, MobileMultiModalError) else InternalError("")
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(known).__name__.removesuffix("Error")).lower()


def reason_of_rejection(error: BaseException) -> str | None:
    """Why a request was turned away before any work, for mobile_multimodal_rejected_total; None for other errors."""
    for error_type, reason in _REASON_OF_REJECTION:
        if isinstance(error, error_type):
            return reason
    return None


def is_openai_path(path: str) -> bool:
    """Whether errors at this address have OpenAI's shape."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in OPENAI_PREFIXES)


def problem_of(error: BaseException, *, instance: str, request_id: str) -> dict[str, Any]:
    """The members of a problem (RFC 9457, section 3.1) with `hint`, the next step, and the request's id."""
    message, hint = _public_words(error, request_id)
    title = (type(error).__doc__ or "").partition("\n")[0] if isinstance(error, MobileMultiModalError) else ""
    return {
        "type": f"{PROBLEM_PREFIX}{name_of(error)}",
        "title": title.rstrip(".") or "A broken promise of the server itself",
        "status": status_of(error),
        "detail": message,
        "hint": hint,
        "instance": instance,
        "request_id": request_id,
    }


def openai_error_of(error: BaseException, *, request_id: str) -> dict[str, Any]:
    """The same in the shape that OpenAI's clients read; the hint is part of the message."""
    status = status_of(error)
    message, hint = _public_words(error, request_id)
    kind = _OPENAI_TYPE_OF_STATUS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {
        "error": {
            "message": f"{message} (hint: {hint})" if hint else message,
            "type": kind,
            "param": None,
            "code": name_of(error).replace("-", "_"),
        }
    }


def headers_of(error: BaseException) -> dict[str, str]:
    """The header fields that an error brings: when to come back, and how to say who one is."""
    headers = {"cache-control": "no-store"}
    if isinstance(error, UnavailableError):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds)))
    if isinstance(error, UnauthenticatedError):
        headers["www-authenticate"] = 'Bearer realm="mobile-mm"'
    return headers


def error_response(error: BaseException, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that failed, in the shape of its address."""
    path = str(scope.get("path", ""))
    request_id = str(scope.get("state", {}).get("request_id", ""))
    if is_openai_path(path):
        content, media_type = openai_error_of(error, request_id=request_id), "application/json"
    else:
        content = problem_of(error, instance=path, request_id=request_id)
        media_type = "application/problem+json"
    scope.setdefault("state", {})["error"] = error  # for the log and the metrics, which see the answer pass
    status = status_of(error)
    if is_openai_path(path) and isinstance(error, SchemaError):
        status = 400  # as OpenAI answers, so that its clients raise what their users expect
    return Response(
        json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"),
        status_code=status,
        headers={**headers_of(error), **{name.lower(): value for name, value in (headers or {}).items()}},
        media_type=media_type,
    )


def _public_words(error: BaseException, request_id: str) -> tuple[str, str]:
    """What a caller may read: the words of a failure of the server itself may name its files."""
    if not isinstance(error, MobileMultiModalError) or status_of(error) == 500:
        return "the server failed on this request", f"report it with the request's id {request_id}"
    if isinstance(error, InvalidInputError) and not error.hint:
        return error.message, "check the request"
    return error.message, error.hint
