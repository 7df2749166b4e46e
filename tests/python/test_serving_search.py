"""/v1/search finds what the gallery finds, shows thumbnails of the index alone, and names no folder of the machine."""

from __future__ import annotations

import io
from pathlib import Path

import pybase64
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serving_process import ServerProcess, picture

from mobile_multimodal.serving.application import create_app
from mobile_multimodal.serving.configuration.settings import ServeSettings
from mobile_multimodal.serving.schemas import SearchResponse


def test_words_find_pictures(server: ServerProcess) -> None:
    with server.client() as client:
        answer = client.post("/v1/search", json={"query": "boats on the water", "k": 2})
    assert answer.status_code == 200, answer.text
    body = SearchResponse.model_validate(answer.json(), strict=True)
    assert body.results[0].path == "boats.jpg"
    assert len(body.results) == 2
    assert body.results[0].score >= body.results[1].score


@pytest.mark.parametrize("as_form", [False, True])
def test_a_picture_finds_itself(server: ServerProcess, root: Path, as_form: bool) -> None:
    cat = picture(root)
    with server.client() as client:
        if as_form:
            answer = client.post("/v1/search", files={"image": cat}, data={"k": "1"})
        else:
            answer = client.post("/v1/search", json={"image": pybase64.b64encode_as_string(cat), "k": 1})
    assert [hit["path"] for hit in answer.json()["results"]] == ["cat.jpg"]
    assert answer.json()["results"][0]["score"] == pytest.approx(1, abs=0.01)


def test_dates_and_folders_narrow_a_search(server: ServerProcess) -> None:
    with server.client() as client:
        early = client.post("/v1/search", json={"query": "boats", "until": "1980"})
        inside = client.post("/v1/search", json={"query": "boats", "folder": "holiday"})
    assert early.json()["results"] == []
    assert inside.json()["results"] == []


def test_a_thumbnail_is_a_small_jpeg(server: ServerProcess) -> None:
    with server.client() as client:
        hit = client.post("/v1/search", json={"query": "a cat", "k": 1}).json()["results"][0]
        answer = client.get(hit["thumbnail"])
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "private, max-age=3600"
    with Image.open(io.BytesIO(answer.content), formats=["JPEG"]) as thumbnail:
        assert max(thumbnail.size) == 320


@pytest.mark.parametrize(
    "name", [b"secret.jpg", b"../../../etc/passwd", b"/etc/passwd", b".mobile-mm.gallery", b"", b"\0", b"cat.jpg/"]
)
def test_only_pictures_of_the_index_are_shown(server: ServerProcess, name: bytes) -> None:
    with server.client() as client:
        answer = client.get(f"/v1/search/thumbnails/{pybase64.urlsafe_b64encode(name).decode().rstrip('=')}")
    assert answer.status_code == 404
    assert answer.json()["detail"] in (
        "the index has no such picture",
        "there is no '/v1/search/thumbnails/' on this server",
    )


def test_the_status_tells_how_many_there_are(server: ServerProcess) -> None:
    with server.client() as client:
        assert client.get("/v1/search").json() == {"enabled": True, "pictures": 3}


def test_without_an_index_there_is_nothing_to_search() -> None:
    # Not started: neither answer needs a worker.
    client = TestClient(create_app(ServeSettings(page=False)), base_url="http://localhost")
    assert client.get("/v1/search").json() == {"enabled": False, "pictures": 0}
    answer = client.post("/v1/search", json={"query": "a"})
    assert answer.status_code == 404
    assert answer.json()["hint"] == "start it with `mobile-mm serve --index FOLDER`"
