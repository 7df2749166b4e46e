"""The page and its files are served from memory, with a strict policy, and nothing else of the disk is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from mobile_multimodal.errors import UnsupportedError
from mobile_multimodal.serving import application
from mobile_multimodal.serving.application import create_app
from mobile_multimodal.serving.configuration.settings import ServeSettings
from mobile_multimodal.serving.routes.page import find_page


@pytest.fixture(scope="module")
def client() -> TestClient:
    """The app without its workers: the page needs none."""
    return TestClient(create_app(ServeSettings()), base_url="http://localhost")


def test_the_page_is_there_with_all_that_it_names(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:href|src)="(page/[^"]+)"', answer.text)
    assert named
    for path in named:
        assert client.get(f"/{path}").status_code == 200, path


def test_every_file_is_sent_as_what_it_is(client: TestClient) -> None:
    folder = find_page()
    assert folder is not None
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}
    files = [path for path in folder.rglob("*") if path.suffix in types]
    assert {path.suffix for path in files} == set(types)
    for path in files:
        answer = client.get(f"/page/{path.relative_to(folder).as_posix()}")
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"].partition(";")[0] == types[path.suffix]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_policy_lets_no_other_host_in(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_what_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/page/styles/foundation.css")
    again = client.get("/page/styles/foundation.css", headers={"if-none-match": first.headers["etag"]})
    assert first.headers["cache-control"] == "no-cache"
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize(
    "path", ["/page/", "/page/index.htm", "/page/%2e%2e/%2e%2e/pyproject.toml", "/page//etc/passwd", "/page/.hidden"]
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "the page has no such file"


def test_the_page_can_be_left_out() -> None:
    client = TestClient(create_app(ServeSettings(page=False)), base_url="http://localhost")
    assert client.get("/").status_code == 404


def test_an_installation_without_a_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "find_page", lambda: None)
    with pytest.raises(UnsupportedError, match="this installation has no page to serve"):
        create_app(ServeSettings())


def test_the_samples_on_the_page_are_those_of_the_repository(root: Path) -> None:
    folder = find_page()
    assert folder is not None
    for name in ("boats.jpg", "sheep.jpg"):
        assert (folder / "samples" / name).is_file()
