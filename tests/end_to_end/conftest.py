"""Gives end-to-end tests a real server with an index of the sample pictures, and a browser that is watched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running_server import RunningServer, running_server
from watched_browser import CHROMIUM, WAIT_MILLISECONDS, Watched, launch, open_watched

from mobile_multimodal import MobileMultiModalLLM, available_models
from mobile_multimodal.gallery import Gallery

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "mobile-mm-llm-int2"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def pictures() -> Path:
    """The folder of sample photographs."""
    return ROOT / "examples" / "pictures"


@pytest.fixture(scope="session")
def invoice() -> Path:
    """A page with five lines of text, one at an angle."""
    return ROOT / "examples" / "pages" / "invoice.png"


@pytest.fixture(scope="session")
def gallery_folder(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A folder of pictures with an index."""
    _need_server()
    folder = tmp_path_factory.mktemp("gallery")
    for picture in pictures.glob("*.jpg"):
        shutil.copy(picture, folder)
    with MobileMultiModalLLM.from_pretrained(MODEL) as model, Gallery.create(folder, model) as gallery:
        gallery.update()
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, gallery_folder: Path) -> Iterator[RunningServer]:
    """One server for all tests that leave it as it was."""
    with running_server(tmp_path_factory.mktemp("server"), "--index", str(gallery_folder)) as started:
        yield started


@pytest.fixture
def own_server(tmp_path: Path) -> Callable[..., Any]:
    """Starts a server of the test's own, with any flags: `with own_server("--flag") as server`."""
    _need_server()
    return lambda *flags: running_server(tmp_path, *flags)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: extra dev")
    sync_api.expect.set_options(timeout=WAIT_MILLISECONDS)
    with sync_api.sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the page of a server. When the test is over, it must have asked no other host, broken no rule of the
    Content-Security-Policy and logged no error."""
    opened: list[Watched] = []

    def open_it(server: RunningServer | str, path: str = "/", **options: Any) -> Page:
        origin = server if isinstance(server, str) else server.address
        opened.append(open_watched(browser, origin, path, **options))
        return opened[-1].page

    yield open_it
    for watched in opened:
        watched.context.close()
    for watched in opened:
        assert watched.requests, "the listener heard no request"
        assert watched.off_origin() == []
        assert watched.violations == []
        assert watched.failures == []


@pytest.fixture
def page(open_page: Callable[..., Page], server: RunningServer) -> Page:
    """The page of the shared server, as it is when it is opened."""
    return open_page(server)


def _need_server() -> None:
    pytest.importorskip("fastapi", reason="the server's packages are not installed: extra serve")
    if MODEL not in available_models():
        pytest.skip(f"the package holds no model file {MODEL}.gguf")
