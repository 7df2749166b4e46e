"""Says what the pool and each of its workers are doing at this moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from mobile_multimodal.serving.workers.job import Task

WorkerState = Literal["starting", "ready", "busy", "dead"]


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Which model file answers: two with one sha256 answer alike.

    sha256  of the file's bytes, as `sha256sum` prints it; every worker has read the file with just this one
    """

    name: str
    version: str
    sha256: str
    path: str
    file_bytes: int


@dataclass(frozen=True, kw_only=True)
class WorkerStatus:
    """One worker's place in the pool.

    pid             of the process; 0 while there is none
    state           "starting", "ready", "busy", or "dead": it waits for its next start
    task            what it is busy with, or None
    jobs_done       since the pool began, by all processes in this place
    restarts        processes that were replaced here
    resident_bytes  now; pages that workers share count in each
    last_error      why the last process here ended or could not start; "" for never
    """

    pid: int
    state: WorkerState
    task: Task | None
    jobs_done: int
    restarts: int
    resident_bytes: int
    last_error: str = ""


@dataclass(frozen=True, kw_only=True)
class PoolStatus:
    """The pool at this moment.

    running      jobs that workers are busy with
    is_ready     a job given now would be taken on by a living worker
    is_degraded  some worker is not alive
    is_draining  stopping: no further jobs
    programs     of the model file, such as "encode_image"; empty until the first worker was ready
    isa          the instruction set whose kernels run
    """

    workers: tuple[WorkerStatus, ...]
    queue_length: int
    queue_limit: int
    running: int
    is_ready: bool
    is_degraded: bool
    is_draining: bool
    model: ModelIdentity | None
    programs: tuple[str, ...]
    isa: str

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        return asdict(self) | {
            "workers": [asdict(worker) for worker in self.workers],
            "programs": list(self.programs),
        }
