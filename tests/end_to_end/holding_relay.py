"""Stands between a browser and a server: keeps what is sent, and holds an answer until a test has looked."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from types import TracebackType

_CHUNK = 65536


class HoldingRelay:
    """Relays TCP connections. After `hold_after(marker, count)`, an answer stops behind the count-th marker in it.

    uploads  what browsers sent, a connection each; Chromium's own protocol does not show bodies that hold files
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._marker = b""
        self._count = 0
        self.uploads: list[bytearray] = []
        self._released = threading.Event()
        self._held = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def last_picture(self) -> bytes:
        """The file in the last form that was sent."""
        found = []
        for upload in self.uploads:
            for part in re.finditer(rb'name="image"; filename="[^"]*"\r\nContent-Type: [^\r]*\r\n\r\n', upload):
                boundary = re.findall(rb"boundary=(\S+)\r\n", upload[: part.start()])[-1]
                end = upload.index(b"\r\n--" + boundary, part.end())
                found.append(bytes(upload[part.end() : end]))
        assert found, "no form with a picture was sent"
        return found[-1]

    def hold_after(self, marker: bytes, count: int) -> None:
        """From now on an answer is held behind its count-th marker."""
        self._released.clear()
        self._held.clear()
        self._marker, self._count = marker, count

    def wait_until_held(self) -> None:
        assert self._held.wait(30), "no answer came that far"

    def release(self) -> None:
        """Lets the rest of the held answer, and all later ones, through."""
        self._marker = b""
        self._released.set()

    def cut(self) -> None:
        """Breaks all connections that are open."""
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.release()

    def __enter__(self) -> HoldingRelay:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listener.close()
        self.cut()
        for thread in list(self._threads):
            thread.join(10)
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                browser, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            self._sockets += [browser, server]
            gone = threading.Event()
            for run in (
                threading.Thread(target=self._up, args=(browser, server, gone), daemon=True),
                threading.Thread(target=self._down, args=(server, browser, gone), daemon=True),
            ):
                self._threads.append(run)
                run.start()

    def _up(self, browser: socket.socket, server: socket.socket, gone: threading.Event) -> None:
        upload = bytearray()
        self.uploads.append(upload)
        with suppress(OSError):
            while data := browser.recv(_CHUNK):
                upload += data
                server.sendall(data)
        gone.set()  # the browser left: the server is to know, even while its answer is held
        for each in (browser, server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _down(self, server: socket.socket, browser: socket.socket, gone: threading.Event) -> None:
        passed = b""
        with suppress(OSError):
            while data := server.recv(_CHUNK):
                end = self._end_of(passed, data)
                passed += data
                if end is not None:
                    browser.sendall(data[:end])
                    self._held.set()
                    while not (self._released.wait(0.05) or gone.is_set()):
                        pass
                    data = data[end:]
                browser.sendall(data)
        for each in (browser, server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _end_of(self, passed: bytes, data: bytes) -> int | None:
        """Where in `data` the count-th marker of the connection ends, if it does there."""
        marker, whole = self._marker, passed + data
        if not marker or whole.count(marker) < self._count or passed.count(marker) >= self._count:
            return None
        place = 0
        for _ in range(self._count):
            place = whole.index(marker, place) + len(marker)
        return max(0, place - len(passed))
