"""Serves the page at / and its files below /page: static files, known when the server starts."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mobile_multimodal.errors import NotFoundError
from mobile_multimodal.serving.http.problems import RouteNotFoundError

# A wheel has the page beside this package; a checkout has it in apps/web.
_IN_WHEEL: Final = Path(__file__).resolve().parent.parent / "page"
_IN_CHECKOUT: Final = Path(__file__).resolve().parents[4] / "apps" / "web"
_MAX_FILES: Final = 500
_TYPE_OF_SUFFIX: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True, kw_only=True)
class PageFile:
    """One file of the page as it is sent."""

    content: bytes
    media_type: str
    etag: str


def find_page() -> Path | None:
    """The folder with the page's index.html, or None in an installation without it."""
    return next((folder for folder in (_IN_WHEEL, _IN_CHECKOUT) if (folder / "index.html").is_file()), None)


def page_routes(folder: Path) -> list[Route]:
    """The routes of a page. Its files are read once: no path of a request ever reaches the disk."""
    files = {path.relative_to(folder).as_posix(): _read(path) for path in _files_in(folder)}

    async def index(request: Request) -> Response:
        return _response(request, files["index.html"])

    async def file(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        if found is None:
            raise RouteNotFoundError("the page has no such file", "the page is at /")
        return _response(request, found)

    return [
        Route("/", index, methods=["GET"], include_in_schema=False),
        Route("/page/{name:path}", file, methods=["GET"], include_in_schema=False),
    ]


def _files_in(folder: Path) -> list[Path]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    if len(files) > _MAX_FILES:
        raise NotFoundError(f"folder {str(folder)!r} has {len(files)} files, expected those of the page", "check it")
    return files


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return PageFile(
        content=content,
        media_type=_TYPE_OF_SUFFIX.get(path.suffix, guessed),
        etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    )


def _response(request: Request, file: PageFile) -> Response:
    # no-cache asks each time whether the file is the same, which costs 304 and no bytes: a new version shows at once.
    headers = {"etag": file.etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
