"""One worker process as the front sees it, from its start until nothing is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing.util
import os
import signal
import socket
from collections.abc import Callable, Iterable
from multiprocessing.context import ForkServerProcess

from mobile_multimodal.serving.workers.channel import ChannelClosedError, Header, read_frame, write_frame
from mobile_multimodal.serving.workers.fork_server import start_worker_process
from mobile_multimodal.serving.workers.pool_settings import PoolSettings


class WorkerHandle:
    """A process and its socket. Make it with `start`, read it with `listen`, and end it with `reap`."""

    def __init__(self, process: ForkServerProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = process.pid or 0
        self._process = process
        self._reader = reader
        self._writer = writer
        # A front that ends without stopping its pool would wait for ever in multiprocessing's exit for workers that
        # wait for it: they ignore its SIGTERM.
        self._finalizer = multiprocessing.util.Finalize(self, process.kill, exitpriority=10)

    @classmethod
    async def start(cls, settings: PoolSettings, name: str) -> WorkerHandle:
        """Starts the process; it says "ready" or "failed" when it has opened the model."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.to_thread(start_worker_process, theirs, settings, name)
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()  # a process that was started nevertheless ends with it
            raise
        return cls(process, reader, writer)

    async def listen(self, on_frame: Callable[[Header], None]) -> None:
        """Hands every frame on, until the process is gone."""
        try:
            while True:
                on_frame(await read_frame(self._reader))
        except ChannelClosedError:
            return

    def send(self, header: Header, body: Iterable[bytes] = ()) -> None:
        """Sends a frame; one to a process that is gone is dropped, and `listen` says so."""
        if not self._writer.is_closing():
            write_frame(self._writer, header, body)

    def kill(self) -> None:
        """Ends the process now, also one that is stopped; to be called before `reap` alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # Process.kill does nothing any more once the fork server was killed

    async def reap(self) -> int:
        """Kills what is left, waits for it and frees what it held here; the exit code is negative for a signal."""
        self.kill()
        self._writer.transport.abort()
        await _readable(self._process.sentinel)
        self._process.join()
        exit_code = self._process.exitcode
        self._finalizer.cancel()
        self._process.close()
        return -9 if exit_code is None else exit_code


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(descriptor)
