"""One job as it crosses from the front to a worker: a JSON record, and the picture's bytes beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mobile_multimodal.serving.workers.job import Task


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """A job as a worker sees it.

    deadline     on the clock of time.monotonic(), which all processes of one machine share
    picture_key  the SHA-256 of the picture's bytes; "" without a picture
    is_stream    the pieces of its caption are wanted as they come
    """

    number: int
    task: Task
    arguments: Mapping[str, Any]
    deadline: float
    picture: memoryview
    picture_key: str
    is_stream: bool


def record_of_item(item: WorkItem) -> dict[str, Any]:
    """The record; the picture's bytes follow those of the items before it in the frame's body."""
    return {
        "number": item.number,
        "task": item.task,
        "arguments": dict(item.arguments),
        "deadline": item.deadline,
        "picture_bytes": item.picture.nbytes,
        "picture_key": item.picture_key,
        "is_stream": item.is_stream,
    }


def items_of_records(records: Iterable[Mapping[str, Any]], body: memoryview) -> list[WorkItem]:
    """The items of a frame, each with its part of the body."""
    items = []
    start = 0
    for record in records:
        end = start + record["picture_bytes"]
        items.append(
            WorkItem(
                number=record["number"],
                task=record["task"],
                arguments=record["arguments"],
                deadline=record["deadline"],
                picture=body[start:end],
                picture_key=record["picture_key"],
                is_stream=record["is_stream"],
            )
        )
        start = end
    return items
