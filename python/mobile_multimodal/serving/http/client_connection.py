"""Ends work for a client that has hung up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request

from mobile_multimodal.serving.services import Services

_Result = TypeVar("_Result")


class ClientGoneError(Exception):
    """The client hung up: nobody reads an answer any more."""


async def while_connected(services: Services, request: Request, work: Awaitable[_Result]) -> _Result:
    """The result of `work`, which is cancelled when the client hangs up. The body must have been read."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            services.metrics.client_left()
            raise ClientGoneError
        return task.result()
    finally:
        for unfinished in (task, gone):
            if not unfinished.done():
                unfinished.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await unfinished


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
