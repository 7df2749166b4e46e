"""Runs the app on uvicorn: listens, tells where, and leaves so that no request is lost."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.serving.application import create_app
from mobile_multimodal.serving.configuration.settings import ServeSettings
from mobile_multimodal.serving.http.http_protocol import bounded_protocol
from mobile_multimodal.serving.services import Services
from mobile_multimodal.serving.telemetry.logging import configure_logging
from mobile_multimodal.serving.telemetry.metrics_endpoint import metrics_app

_log = logging.getLogger("mobile_multimodal.serving")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LAST_WORDS_SECONDS: Final = 1.0
_CODE_OF_SIGNAL: Final = 128  # a shell adds it to the signal's number


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where a server listens; `metrics` is None where it exposes none."""

    api: str
    metrics: str | None


def run_server(settings: ServeSettings, on_listening: Callable[[Addresses, Services], None]) -> int:
    """Serves until a signal ends it, and returns the exit code.

    SIGTERM: not ready at once, so that load balancers look elsewhere, but answering for `drain_delay_seconds`; then no
    new connections, and `drain_timeout_seconds` for what is under way. SIGINT: the same without the delay. A second
    signal ends at once.
    on_listening  called when requests are answered
    Raises InvalidInputError (an address cannot be listened on), and what create_app and its workers raise.
    """
    configure_logging(settings.logging)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its comings and goings are told here
    config = uvicorn.Config(_nothing, loop="auto", log_config=None)  # only to learn which event loop is installed
    factory = config.get_loop_factory()
    loop = asyncio.new_event_loop() if factory is None else factory()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(_Run(settings, on_listening).serve())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()


class _QuietServer(uvicorn.Server):
    """uvicorn's server without its signal handlers, which end the process with the signal instead of code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end_now(self) -> None:
        """Hangs up on all who are still there; what answers them is cancelled."""
        self.should_exit = self.force_exit = True
        for task in self.server_state.tasks:
            task.cancel()
        for connection in list(self.server_state.connections):
            if not connection.transport.is_closing():  # one that closes still sends what is left
                connection.transport.abort()


class _Run:
    """One server's life."""

    def __init__(self, settings: ServeSettings, on_listening: Callable[[Addresses, Services], None]) -> None:
        self._settings = settings
        self._on_listening = on_listening
        self._server: _QuietServer | None = None
        self._services: Services | None = None
        self._task: asyncio.Task[None] | None = None
        self._signals = 0
        self._exit_code = 0

    async def serve(self) -> int:
        loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(self._serve())
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            await self._task
        except asyncio.CancelledError:
            if not self._signals:
                raise
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
        _log.info("stopped", extra={"exit_code": self._exit_code})
        return self._exit_code

    async def _serve(self) -> None:
        settings = self._settings
        listener = listen(settings.host, settings.port, "port")
        metrics_listener = (
            listen(settings.metrics_host, settings.metrics_port, "metrics_port") if settings.metrics else None
        )
        try:
            app = create_app(settings)
            self._services = services = app.state.services
            async with app.router.lifespan_context(app):
                await self._run_servers(app, services, listener, metrics_listener)
        finally:
            for opened in (listener, metrics_listener):
                if opened is not None:
                    opened.close()

    async def _run_servers(
        self, app: FastAPI, services: Services, listener: socket.socket, metrics_listener: socket.socket | None
    ) -> None:
        addresses = Addresses(
            api=_address_of(listener), metrics=None if metrics_listener is None else _address_of(metrics_listener)
        )
        self._server = server = _QuietServer(self._config(app))
        task = asyncio.ensure_future(server.serve([listener]))
        running = {task: server}
        if metrics_listener is not None:
            side_server = _QuietServer(self._config(metrics_app(services.metrics.registry)))
            running[asyncio.ensure_future(side_server.serve([metrics_listener]))] = side_server
        try:
            while not (server.started or task.done()):
                await asyncio.sleep(0.005)
            _log.info(
                "listening",
                extra={"api": addresses.api, "metrics": addresses.metrics, "model_version": services.model.sha256},
            )
            self._on_listening(addresses, services)
            await asyncio.wait({task})  # `await task` would cancel it together with this
            task.result()
            if server.server_state.tasks:  # out of time and cancelled: each still says so to its client
                await asyncio.wait(server.server_state.tasks, timeout=_LAST_WORDS_SECONDS)
        finally:
            services.stop_seconds = 0.0  # what was under way is done, or has had its time
            for each in running.values():
                each.end_now()
            await asyncio.wait(running)

    def _config(self, app: ASGIApp) -> uvicorn.Config:
        settings = self._settings
        return uvicorn.Config(
            app,
            http=bounded_protocol(settings),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=ceil(settings.drain_timeout_seconds),
        )

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 2:
            return  # it is ending as fast as it can
        if self._signals > 1 or self._server is None or self._services is None or not self._server.started:
            self._exit_code = _CODE_OF_SIGNAL + number if self._signals > 1 or number == signal.SIGINT else 0
            if self._task is not None:
                self._task.cancel()
            return
        self._services.is_draining = True
        delay = self._settings.drain_delay_seconds if number == signal.SIGTERM else 0.0
        _log.info("draining: not ready, answering for %g s more", delay)
        asyncio.get_running_loop().call_later(delay, self._stop_accepting)

    def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.should_exit = True


async def _nothing(*_: object) -> None:
    """Stands where a configuration needs an app."""


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A socket bound to an address; uvicorn would end the process where it cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InvalidInputError(f"host {host!r} has no address: {error.strerror}", "check its spelling") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise InvalidInputError(
            f"{setting} {port} on {host!r} cannot be listened on: {error.strerror}",
            f"stop what has it, or choose another with --{setting.replace('_', '-')} (0 takes a free one)",
        ) from error
    return listener


def _address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
