"""Frames between the front and a worker: a JSON header and raw bytes, over a socket pair.

A frame is two unsigned 32-bit numbers (bytes of the header, bytes of the body; network order), the header, the body.
JSON and not pickle: what a worker sends, after it decoded hostile pictures, can only be data.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Any, Final

Header = dict[str, Any]

_SIZES: Final = struct.Struct("!II")
_MOST_HEADER_BYTES: Final = 64 << 20  # a page of 3,000 lines has 10 MB; a worker that was taken over gets no more


class ChannelClosedError(Exception):
    """The other end is gone."""


def frame_start(header: Header, body_bytes: int = 0) -> bytes:
    """What stands before the body."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return _SIZES.pack(len(text), body_bytes) + text


def write_frame(writer: asyncio.StreamWriter, header: Header, body: Iterable[bytes] = ()) -> None:
    """Sends without waiting: the front sends a worker one batch at a time, so no more than that piles up."""
    parts = list(body)
    writer.write(frame_start(header, sum(map(len, parts))))
    for part in parts:
        writer.write(part)


async def read_frame(reader: asyncio.StreamReader) -> Header:
    """The header of the next frame; workers send no bodies. Raises ChannelClosedError."""
    try:
        header_bytes, body_bytes = _SIZES.unpack(await reader.readexactly(_SIZES.size))
        if header_bytes > _MOST_HEADER_BYTES or body_bytes:
            raise ChannelClosedError
        header: Header = json.loads((await reader.readexactly(header_bytes)).decode("utf-8", "surrogatepass"))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise ChannelClosedError from error
    return header


class WorkerChannel:
    """The worker's end. One thread receives; any may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, header: Header) -> None:
        """Sends a frame; waits while the front is slow. Raises ChannelClosedError."""
        frame = frame_start(header)
        try:
            with self._sending:
                self._connection.sendall(frame)
        except OSError as error:
            raise ChannelClosedError from error

    def receive(self) -> tuple[Header, memoryview]:
        """Waits for the next frame. Raises ChannelClosedError."""
        header_bytes, body_bytes = _SIZES.unpack(self._receive_exactly(_SIZES.size))
        header: Header = json.loads(str(self._receive_exactly(header_bytes), "utf-8", "surrogatepass"))
        return header, self._receive_exactly(body_bytes)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def _receive_exactly(self, size: int) -> memoryview:
        received = memoryview(bytearray(size))
        done = 0
        while done < size:
            try:
                count = self._connection.recv_into(received[done:])
            except OSError as error:
                raise ChannelClosedError from error
            if count == 0:
                raise ChannelClosedError
            done += count
        return received
