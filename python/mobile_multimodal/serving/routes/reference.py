"""Shows the OpenAPI document as a page: no script, nothing from another host."""

from __future__ import annotations

import json
from html import escape
from typing import Any, Final, cast

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} {version}: API</title>
<link rel="stylesheet" href="/docs/reference.css">
</head>
<body>
<main>
<h1>{title} {version}</h1>
<p>{description} The same for programs: <a href="/openapi.json">/openapi.json</a>.</p>
{operations}
<h2>Bodies</h2>
{schemas}
</main>
</body>
</html>
"""
_STYLE: Final = """:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1.5rem; max-width: 60rem; font: 1rem/1.5 system-ui, sans-serif; }
h2 { margin-top: 2.5rem; font-size: 1.15rem; overflow-wrap: anywhere; }
h3 { margin-top: 2rem; font-size: 1rem; }
code, pre { font-size: .9em; }
pre { padding: .75rem; overflow-x: auto; border: 1px solid; border-radius: .5rem; }
table { border-collapse: collapse; }
td, th { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; }
"""
_LONGEST_EXAMPLE: Final = 60  # characters of a value: a picture in base64 says nothing after them


def reference_routes() -> list[Route]:
    """The routes of the reference."""

    async def page(request: Request) -> Response:
        return Response(_page_of(cast(FastAPI, request.app).openapi()), media_type="text/html")

    async def style(request: Request) -> Response:
        return Response(_STYLE, media_type="text/css")

    return [
        Route("/docs", page, methods=["GET"], include_in_schema=False),
        Route("/docs/reference.css", style, methods=["GET"], include_in_schema=False),
    ]


def _page_of(document: dict[str, Any]) -> str:
    info = document["info"]
    return _PAGE.format(
        title=escape(info["title"]),
        version=escape(info["version"]),
        description=escape(info["description"]),
        operations="\n".join(
            _operation(path, method, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ),
        schemas="\n".join(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())),
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    takes = "".join(f"<li><code>{escape(kind)}</code>: {_link(media)}</li>" for kind, media in body.items())
    rows = "".join(
        f"<tr><th>{status}</th><td>{escape(response['description'])}</td><td>"
        + "<br>".join(f"<code>{escape(kind)}</code> {_link(media)}" for kind, media in response["content"].items())
        + "</td></tr>"
        for status, response in operation["responses"].items()
    )
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>\n<p>{escape(operation['summary'])}.</p>\n"
        + (f"<p>Takes</p><ul>{takes}</ul>\n" if takes else "")
        + f"<table>{rows}</table>"
    )


def _link(media: dict[str, Any]) -> str:
    name = media.get("schema", {}).get("$ref", "").rsplit("/", 1)[-1]
    return f'<a href="#{escape(name)}">{escape(name)}</a>' if name else ""


def _schema(name: str, schema: dict[str, Any]) -> str:
    text = json.dumps(_shortened(schema), indent=1, ensure_ascii=False)
    return f'<h3 id="{escape(name)}">{escape(name)}</h3>\n<pre>{escape(text)}</pre>'


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_shortened(entry) for entry in value]
    if isinstance(value, str) and value.startswith("data:") and len(value) > _LONGEST_EXAMPLE:
        return f"{value[:_LONGEST_EXAMPLE]}..."
    return value
