"""Lets any number of threads use one session of a model file, one call at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mobile_multimodal.errors import DeadlineExceededError, InvalidInputError, UnsupportedError
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.tasks.deadline import Deadline

if TYPE_CHECKING:
    from mobile_multimodal.native import Engine, Session


@dataclass(frozen=True, kw_only=True)
class HealthStatus:
    """Whether a model can answer, and what answers.

    status      "ok" or "closed"
    isa         the instruction set whose kernels run, e.g. "avx512_vnni"
    verified    the weights' SHA-256 were compared with the file's: when it was loaded, or by this call
    """

    status: str
    model: str
    path: str
    file_bytes: int
    format_version: int
    programs: tuple[str, ...]
    isa: str
    threads: int
    profile: str
    verified: bool
    uptime_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        return asdict(self) | {"programs": list(self.programs)}


class SharedSession:
    """A session and its engine until `close`; `turn` waits for the calls before."""

    def __init__(self, engine: Engine, session: Session) -> None:
        self.engine: Engine | None = engine
        self.programs = tuple(engine.programs())
        self._session: Session | None = session
        self._path = engine.path
        self._can_caption = engine.can_caption
        self._process = os.getpid()
        self._lock = threading.Lock()

    def require(self, ability: str, programs: Sequence[str]) -> Session:
        """The session, if it can be used here and the file has the programs; UnsupportedError says what it lacks."""
        session = self._live()
        missing = [name for name in programs if name not in self.programs]
        if missing:
            raise UnsupportedError(
                f"model file {self._path!r} cannot {ability}: it has no program {' and no '.join(missing)}",
                f"load a model file with the programs {' and '.join(programs)}",
            )
        return session

    def require_captions(self) -> Session:
        """The session, if it can be used here and the file can caption."""
        session = self._live()
        if not self._can_caption:
            raise UnsupportedError(
                f"model file {self._path!r} cannot caption: its programs are {', '.join(self.programs)}",
                f"load another, for example {DEFAULT_MODEL!r}",
            )
        return session

    @contextmanager
    def turn(self, deadline: Deadline) -> Iterator[tuple[Session, float]]:
        """Waits for the session; yields it and what is left of the deadline, in seconds (0: there is none)."""
        if not self._lock.acquire(timeout=deadline.left() or -1):
            raise DeadlineExceededError(
                f"other calls held the model for all of the deadline of {deadline.seconds:g} seconds",
                "allow more time, or load the model more than once",
            )
        try:
            yield self._live(), deadline.left()
        finally:
            self._lock.release()

    def cache_statistics(self) -> dict[str, int]:
        """Hits, misses and bytes of the session's feature cache; waits for no turn."""
        return self._live().cache_statistics()

    def close(self) -> None:
        """Lets go of session and engine after the call under way."""
        with self._lock:
            self._session = None
            self.engine = None

    def _live(self) -> Session:
        if self._process != os.getpid():
            raise UnsupportedError(
                f"the model was loaded in process {self._process} and is used in its fork {os.getpid()}, "
                "where its threads do not exist",
                "load the model in the process that uses it",
            )
        if self._session is None:
            raise InvalidInputError("the model is closed", "load it again with from_pretrained")
        return self._session
