"""Sends server-sent events while a job writes, and calls the job off when the client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from mobile_multimodal.serving.services import Services

# Proxies that collect an answer before they pass it on (nginx) are asked not to.
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def event(data: Any, name: str = "") -> str:
    """One event: its name, where it has one, and its data as JSON on one line."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"


def event_response(services: Services, request: Request, events: AsyncGenerator[str, None]) -> StreamingResponse:
    """The answer that sends these events."""

    async def watched() -> AsyncGenerator[str, None]:
        try:
            async for entry in events:
                yield entry
        except (asyncio.CancelledError, GeneratorExit):
            services.metrics.client_left()
            raise
        finally:
            await events.aclose()

    return StreamingResponse(watched(), media_type="text/event-stream", headers=_HEADERS)
