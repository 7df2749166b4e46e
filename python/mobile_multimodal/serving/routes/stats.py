"""Shows what the server has done since it started, as JSON for the page and for people."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from mobile_multimodal import __version__
from mobile_multimodal.serving.documentation import ACCESS_STATUSES, answers
from mobile_multimodal.serving.services import services_of

router = APIRouter(tags=["health"])


@router.get("/v1/stats", responses=answers("/v1/stats", "Stats", *ACCESS_STATUSES, 500))
async def stats(request: Request) -> Any:
    """Show the model, the workers, the queue, the caches and the times of each task"""
    services = services_of(request)
    status = services.pool.status()
    metrics = services.metrics
    model = services.model
    return {
        "version": __version__,
        "uptime_seconds": round(time.monotonic() - services.started_at, 1),
        "is_ready": services.is_ready,
        "model": {
            "name": model.name,
            "version": model.version,
            "model_version": model.sha256,
            "file_bytes": model.file_bytes,
            "programs": list(status.programs),
            "isa": status.isa,
        },
        "requests": {
            "total": metrics.requests,
            "in_flight": metrics.in_flight,
            "failed": metrics.failures,
            "rejected": metrics.rejections,
            "disconnected": metrics.disconnects,
        },
        "queue": {"length": status.queue_length, "limit": status.queue_limit, "running": status.running},
        "workers": [
            {
                "state": worker.state,
                "task": worker.task,
                "jobs_done": worker.jobs_done,
                "restarts": worker.restarts,
                "resident_bytes": worker.resident_bytes,
            }
            for worker in status.workers
        ],
        "tasks": metrics.recent_tasks(),
        "cache": metrics.cache_counts(),
    }
