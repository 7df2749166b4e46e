"""Frames between the front and a worker: a JSON header and raw bytes, over a socket pair.

A frame is two unsigned 32-bit numbers (bytes of the header, bytes of the body; network order), the header, the body.
JSON and not pickle: what a worker sends, after it decoded hostile pictures, can only be data.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterable
from typing import Any, Final

Header = dict[str, Any]

_SIZES: Final = struct.Struct("!II")


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
        header: Header = json.loads((await reader.readexactly(header_bytes)).decode("utf-8", "surrogatepass"))
        await reader.readexactly(body_bytes)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise ChannelClosedError from error
    return header


def send_frame(connection: socket.socket, header: Header) -> None:
    """Sends from a worker; waits while the front is slow. Raises ChannelClosedError."""
    try:
        connection.sendall(frame_start(header))
    except OSError as error:
        raise ChannelClosedError from error


def receive_frame(connection: socket.socket) -> tuple[Header, memoryview]:
    """The next frame in a worker. Raises ChannelClosedError."""
    header_bytes, body_bytes = _SIZES.unpack(_receive_exactly(connection, _SIZES.size))
    header: Header = json.loads(str(_receive_exactly(connection, header_bytes), "utf-8", "surrogatepass"))
    return header, _receive_exactly(connection, body_bytes)


def _receive_exactly(connection: socket.socket, size: int) -> memoryview:
    received = memoryview(bytearray(size))
    done = 0
    while done < size:
        try:
            count = connection.recv_into(received[done:])
        except OSError as error:
            raise ChannelClosedError from error
        if count == 0:
            raise ChannelClosedError
        done += count
    return received
