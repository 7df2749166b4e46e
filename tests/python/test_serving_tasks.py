"""`/v1/inference` and the short routes give what the library gives, as JSON, from base64, data URLs and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pybase64
import pytest
from serving_process import ServerProcess, picture

from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.serving import schemas

RESPONSES: dict[str, type[schemas.TaskResponse]] = {
    "caption": schemas.CaptionResponse,
    "ocr": schemas.OcrResponse,
    "vqa": schemas.AskResponse,
    "embed": schemas.EmbedResponse,
}


def base64_of(data: bytes) -> str:
    return pybase64.b64encode_as_string(data)


def run(server: ServerProcess, path: str, **body: Any) -> dict[str, Any]:
    with server.client() as client:
        answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return checked(answer)


def checked(answer: httpx.Response) -> dict[str, Any]:
    """The body, which holds what its schema says and nothing else."""
    body: dict[str, Any] = answer.json()
    RESPONSES[body["task"]].model_validate(body, strict=True)
    assert answer.headers["x-request-id"] == body["id"]
    assert answer.headers["cache-control"] == "no-store"
    return body


@pytest.fixture
def cat(root: Path) -> bytes:
    return picture(root)


def test_a_caption_is_that_of_the_library(
    server: ServerProcess, cat: bytes, shipped_model: MobileMultiModalLLM
) -> None:
    body = run(server, "/v1/inference", task="caption", image=base64_of(cat))
    expected = shipped_model.generate_caption(cat)
    assert body["result"]["text"] == expected.text
    assert body["result"]["tokens"] == list(expected.tokens)
    assert body["model"] == "mobile-mm-llm-int2"
    assert len(body["model_version"]) == 64
    assert body["timings"]["total_milliseconds"] > 0


def test_parameters_reach_the_model(server: ServerProcess, cat: bytes, shipped_model: MobileMultiModalLLM) -> None:
    body = run(
        server,
        "/v1/caption",
        image=base64_of(cat),
        parameters={"num_beams": 1, "max_new_tokens": 3, "length_penalty": 1},
    )
    assert body["result"]["text"] == shipped_model.generate_caption(cat, num_beams=1, max_new_tokens=3).text
    assert body["result"]["finish_reason"] == "length"


def test_text_is_read_with_its_boxes(server: ServerProcess, root: Path, shipped_model: MobileMultiModalLLM) -> None:
    page = picture(root, "invoice.png")
    body = run(server, "/v1/ocr", image=f"data:image/png;base64,{base64_of(page)}")
    expected = shipped_model.extract_text(page)
    assert body["result"]["text"] == expected.text
    assert [line["text"] for line in body["result"]["lines"]] == [line.text for line in expected.lines]
    assert all(len(line["box"]) == 4 for line in body["result"]["lines"])


def test_a_question_is_answered(server: ServerProcess, cat: bytes, shipped_model: MobileMultiModalLLM) -> None:
    question = "Is there an animal?"
    body = run(server, "/v1/ask", image=base64_of(cat), question=question, parameters={"top_k": 2})
    assert body["result"]["text"] == shipped_model.answer_question(cat, question).text
    assert len(body["result"]["alternatives"]) == 2


def test_an_option_is_chosen(server: ServerProcess, cat: bytes, shipped_model: MobileMultiModalLLM) -> None:
    options = ["a boat", "a cat", "a sheep"]
    body = run(server, "/v1/inference", task="vqa", image=base64_of(cat), question="What is it?", options=options)
    expected = shipped_model.choose(cat, "What is it?", options)
    assert body["result"]["text"] == max(expected, key=expected.__getitem__)
    assert body["result"]["probabilities"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_an_embedding_is_that_of_the_library(
    server: ServerProcess, cat: bytes, shipped_model: MobileMultiModalLLM, kind: str
) -> None:
    if kind == "image":
        body, expected = run(server, "/v1/embed", image=base64_of(cat)), shipped_model.embed_image(cat)
    else:
        body, expected = run(server, "/v1/embed", text="a cat"), shipped_model.embed_text("a cat")
    assert body["result"]["embedding"] == pytest.approx(expected.tolist(), abs=1e-6)
    assert body["result"]["dimensions"] == len(expected)


def test_a_form_gives_what_json_gives(server: ServerProcess, cat: bytes) -> None:
    with server.client() as client:
        answer = client.post(
            "/v1/inference",
            files={"image": ("cat.jpg", cat, "image/jpeg")},
            data={
                "task": "vqa",
                "question": "What is it?",
                "options": ["a cat", "a boat"],
                "deadline_seconds": "20",
                "parameters": "{}",
            },
        )
    assert answer.status_code == 200, answer.text
    as_json = run(server, "/v1/ask", image=base64_of(cat), question="What is it?", options=["a cat", "a boat"])
    assert checked(answer)["result"] == as_json["result"]


def test_a_form_may_hold_base64_and_its_parameters(server: ServerProcess, cat: bytes) -> None:
    with server.client() as client:
        answer = client.post(
            "/v1/caption",
            files={"image": (None, base64_of(cat)), "parameters": (None, '{"num_beams": 1, "max_new_tokens": 2}')},
        )
    assert checked(answer)["result"]["finish_reason"] == "length"


def test_the_second_time_the_answer_is_at_hand(server: ServerProcess, cat: bytes) -> None:
    asked = {"image": base64_of(cat), "parameters": {"num_beams": 2, "max_new_tokens": 5}}
    first = run(server, "/v1/caption", **asked)
    misses = server.metrics()['mobile_multimodal_cache_misses_total{cache="response"}']
    second = run(server, "/v1/inference", task="caption", **asked)
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["result"] == second["result"]
    assert second["timings"]["inference_milliseconds"] == 0
    assert server.metrics()['mobile_multimodal_cache_misses_total{cache="response"}'] == misses


def test_a_request_keeps_the_id_that_it_came_with(server: ServerProcess, cat: bytes) -> None:
    with server.client() as client:
        body = {"text": "a cat"}
        kept = client.post("/v1/embed", json=body, headers={"X-Request-Id": "order-17.picture_3"})
        replaced = client.post("/v1/embed", json=body, headers={"X-Request-Id": "bad id\twith blanks"})
    assert kept.json()["id"] == kept.headers["x-request-id"] == "order-17.picture_3"
    assert len(replaced.json()["id"]) == 32


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, data) of each event of a stream."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_caption_is_streamed_word_by_word(server: ServerProcess, root: Path) -> None:
    sheep = picture(root, "sheep.jpg")
    with server.client() as client:
        answer = client.post("/v1/caption", json={"image": base64_of(sheep), "stream": True})
        again = client.post("/v1/caption", files={"image": sheep}, data={"stream": "true"})
        whole = client.post("/v1/caption", json={"image": base64_of(sheep), "parameters": {"num_beams": 1}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [name for name, _ in events] == ["piece"] * (len(events) - 1) + ["result"]
    assert len(events) > 3
    result = schemas.CaptionResponse.model_validate(events[-1][1]).result
    assert "".join(data["text"] for name, data in events if name == "piece").strip() == result.text
    assert result.text == whole.json()["result"]["text"]
    cached = events_of(again.text)
    assert [name for name, _ in cached] == ["piece", "result"]
    assert cached[-1][1]["cached"] is True
    assert cached[-1][1]["result"] == events[-1][1]["result"]


def test_what_fails_before_the_first_word_has_its_own_status(server: ServerProcess) -> None:
    with server.client() as client:
        answer = client.post("/v1/caption", json={"image": base64_of(b"no picture"), "stream": True})
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:mobile-mm:problem:invalid-image"
