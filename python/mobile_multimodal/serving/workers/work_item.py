"""One job as a worker sees it, made from what crossed: a JSON record, and the picture's bytes beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mobile_multimodal.serving.workers.job import Task

if TYPE_CHECKING:
    from mobile_multimodal.native import Cancellation


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """A job in a worker.

    deadline      on the clock of time.monotonic(), which all processes of one machine share
    picture_key   the SHA-256 of the picture's bytes; "" without a picture
    is_stream     the pieces of its caption are wanted as they come
    cancellation  what the model looks at before each instruction; another thread may set it, also before the job began
    """

    number: int
    task: Task
    arguments: Mapping[str, Any]
    deadline: float
    picture: memoryview
    picture_key: str
    is_stream: bool
    cancellation: Cancellation


def items_of_records(records: Iterable[Mapping[str, Any]], body: memoryview) -> list[WorkItem]:
    """The items of a frame, each with its part of the body: `PendingJob.record` made the records."""
    from mobile_multimodal.native import Cancellation

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
                cancellation=Cancellation(),
            )
        )
        start = end
    return items
