"""Tells load balancers and people how the server is: it asks the workers, it does not guess."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mobile_multimodal.serving.documentation import answers
from mobile_multimodal.serving.services import Services, services_of

router = APIRouter(tags=["health"])


def _responses(path: str) -> dict[int | str, dict[str, Any]]:
    found = answers(path, "Health")
    return found | {503: {**found[200], "description": "Not now"}}


def _response(is_ok: bool, checks: dict[str, Any]) -> Response:
    return JSONResponse(
        {"status": "ok" if is_ok else "unavailable", "checks": checks},
        status_code=200 if is_ok else 503,
        headers={"cache-control": "no-store"},
    )


def _ready_checks(services: Services) -> dict[str, Any]:
    status = services.pool.status()
    alive = sum(worker.state in ("ready", "busy") for worker in status.workers)
    return {
        "pool": "ok" if status.is_ready else "unavailable",
        "workers_alive": alive,
        "workers": len(status.workers),
        "draining": services.is_draining,
    }


@router.get("/health", responses=_responses("/health"))
async def health(request: Request) -> Response:
    """Show all checks; the status is that of /health/ready"""
    services = services_of(request)
    status = services.pool.status()
    checks = {
        **_ready_checks(services),
        "degraded": status.is_degraded,
        "queue_length": status.queue_length,
        "queue_limit": status.queue_limit,
        **services.back_end_checks(),
    }
    return _response(services.is_ready, checks)


@router.get("/health/live", responses=_responses("/health/live"))
async def live(request: Request) -> Response:
    """Show that the process answers: restart it when this fails"""
    return _response(True, {})


@router.get("/health/ready", responses=_responses("/health/ready"))
async def ready(request: Request) -> Response:
    """Show whether a request sent now would be worked on: send none when this fails"""
    services = services_of(request)
    return _response(services.is_ready, _ready_checks(services))


@router.get("/health/startup", responses=_responses("/health/startup"))
async def startup(request: Request) -> Response:
    """Show whether the model is loaded"""
    is_loaded = services_of(request).pool.status().model is not None
    return _response(is_loaded, {"model": "loaded" if is_loaded else "loading"})
