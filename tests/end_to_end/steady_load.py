"""Keeps a few clients asking while a test breaks something, and remembers every answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import aiohttp
from request_bodies import picture_body

PATIENCE_SECONDS = 60.0  # of a client with one answer, on a busy machine
PICTURES = Path(__file__).resolve().parent.parent.parent / "examples/pictures"


@dataclass(frozen=True)
class Answer:
    """What came of one request: status 0 is no answer at all, with the reason as text."""

    name: str
    began: float
    ended: float
    status: int
    text: str
    retry_after: str | None

    @property
    def result(self) -> str:
        return str(json.loads(self.text)["result"]["text"])


def different_pictures() -> Iterator[tuple[str, bytes]]:
    """The sample pictures round and round, each time with other bytes at their end: no cache knows them."""
    files = sorted(PICTURES.glob("*.jpg"))
    for turn in itertools.count():
        file = files[turn % len(files)]
        yield file.stem, picture_body(file.read_bytes() + f"#{turn}".encode())


class SteadyLoad:
    """`clients` ask for captions, each as soon as it has its answer, while the `with` block runs."""

    def __init__(self, address: str, bodies: Iterator[tuple[str, bytes]], *, clients: int = 4) -> None:
        self._url = f"{address}/v1/caption"
        self._bodies = bodies
        self._clients = clients
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.answers: list[Answer] = []

    def __enter__(self) -> SteadyLoad:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(2 * PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "a client still waits for its answer"

    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    def wait_for_more(
        self, count: int, *, that: Callable[[Answer], bool] = lambda answer: answer.status == 200
    ) -> None:
        """Waits for so many more answers; a server that stopped answering fails the test here."""
        before = sum(map(that, self.answers))
        end = time.monotonic() + PATIENCE_SECONDS
        while sum(map(that, list(self.answers))) < before + count:
            assert time.monotonic() < end, f"no more answers; so far {self.statuses()}, {self.answers[-3:]}"
            time.sleep(0.02)

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        headers = {"Content-Type": "application/json"}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            await asyncio.gather(*(self._client(session) for _ in range(self._clients)))

    async def _client(self, session: aiohttp.ClientSession) -> None:
        while not self._stop.is_set():
            name, body = next(self._bodies)
            began = time.monotonic()
            status, text, retry_after = 0, "", None
            try:
                async with session.post(self._url, data=body) as response:
                    text = await response.text()
                    status, retry_after = response.status, response.headers.get("Retry-After")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                text = f"{type(error).__name__}: {error}"
            self.answers.append(Answer(name, began, time.monotonic(), status, text, retry_after))
            if status != 200:
                await asyncio.sleep(0.05)  # as a polite client
