"""Every error has a name, a status and words for the caller, and says nothing of the server's insides."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mobile_multimodal import errors
from mobile_multimodal.serving.documentation import _MEANING_OF_STATUS
from mobile_multimodal.serving.http import http_protocol, problems


def all_errors() -> list[type[errors.MobileMultiModalError]]:
    found = [problems.HttpError, errors.MobileMultiModalError]
    for kind in found:
        found.extend(kind.__subclasses__())
    assert http_protocol.HeaderTooLargeError in found
    # The kit's own errors are there when another test has imported the kit; no server raises them.
    found = [kind for kind in found if kind.__module__ == errors.__name__ or ".serving." in kind.__module__]
    return sorted(set(found) - {problems.HttpError, errors.MobileMultiModalError}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", all_errors())
def test_each_error_is_a_problem(kind: type[errors.MobileMultiModalError]) -> None:
    problem = problems.problem_of(kind("file '/srv/model.gguf' is bad", "look"), instance="/v1/ocr", request_id="r-1")
    assert list(problem) == ["type", "title", "status", "detail", "hint", "instance", "request_id"]
    assert re.fullmatch(r"urn:mobile-mm:problem:[a-z]+(-[a-z]+)*", problem["type"])
    assert problem["title"]
    assert not problem["title"].endswith(".")
    assert problem["status"] in {*_MEANING_OF_STATUS, 431, 499}
    if problem["status"] == 500:
        assert "/srv" not in json.dumps(problem)
        assert problem["hint"] == "report it with the request's id r-1"
    else:
        assert problem["detail"] == "file '/srv/model.gguf' is bad"
        assert problem["hint"] == "look"


def test_names_are_unique() -> None:
    names = [problems.name_of(kind("")) for kind in all_errors()]
    assert len(set(names)) == len(names)


def test_a_defect_tells_nothing() -> None:
    problem = problems.problem_of(KeyError("secret"), instance="/", request_id="r-2")
    assert problem["type"] == "urn:mobile-mm:problem:internal"
    assert problem["status"] == 500
    assert "secret" not in json.dumps(problem)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.QueueFullError(""), "queue_full"),
        (errors.DrainingError(""), "draining"),
        (errors.RateLimitedError(""), "rate_limited"),
        (errors.UnauthenticatedError(""), "unauthenticated"),
        (errors.PermissionDeniedError(""), "forbidden"),
        (errors.WorkerLostError(""), None),
        (errors.InvalidInputError(""), None),
    ],
)
def test_rejections_are_told_apart(error: errors.MobileMultiModalError, reason: str | None) -> None:
    assert problems.reason_of_rejection(error) == reason


def test_when_to_come_back_is_whole_seconds() -> None:
    busy = errors.QueueFullError("", retry_after_seconds=2.3)
    assert problems.headers_of(busy)["retry-after"] == "3"
    assert problems.headers_of(errors.QueueFullError("", retry_after_seconds=0.01))["retry-after"] == "1"
    assert problems.headers_of(errors.UnauthenticatedError(""))["www-authenticate"] == 'Bearer realm="mobile-mm"'


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (problems.SchemaError("unknown field 'x'", "drop it"), 400, "invalid_request_error", "schema"),
        (errors.UnauthenticatedError("no key", ""), 401, "authentication_error", "unauthenticated"),
        (errors.RateLimitedError("too often", ""), 429, "rate_limit_error", "rate_limited"),
        (errors.QueueFullError("full", ""), 503, "server_error", "queue_full"),
    ],
)
def test_openai_s_addresses_have_openai_s_shape(
    error: errors.MobileMultiModalError, status: int, kind: str, code: str
) -> None:
    response = problems.error_response(error, {"type": "http", "path": "/v1/chat/completions"})
    body = json.loads(bytes(response.body))
    assert response.status_code == status
    assert set(body) == {"error"}
    assert body["error"]["type"] == kind
    assert body["error"]["code"] == code
    assert body["error"]["message"].startswith(error.message)


def test_a_path_that_only_begins_like_one_of_openai_s_is_none() -> None:
    assert problems.is_openai_path("/v1/models/x")
    assert not problems.is_openai_path("/v1/modelsx")


def test_the_guide_lists_every_problem(root: Path) -> None:
    guide = (root / "docs" / "serving.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", guide, re.MULTILINE))
    assert listed == {(str(problems.status_of(kind(""))), problems.name_of(kind(""))) for kind in all_errors()}
