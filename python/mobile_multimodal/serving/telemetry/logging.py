"""Writes what happens as JSON lines to standard error, or readably on a terminal, without secrets."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any, Final, Literal, TextIO

import structlog

from mobile_multimodal.serving.configuration.policy_settings import PolicySettings
from mobile_multimodal.serving.telemetry.redaction import without_secrets

_EventDict = MutableMapping[str, Any]

# Their lines say nothing that the access log does not, or quote what clients sent.
_SILENCED: Final = ("uvicorn.access",)
_ONLY_WARNINGS: Final = ("aiohttp", "asyncio", "httpx", "multipart", "python_multipart")
# Newlines and escape codes from a client could write lines of their own on a terminal.
_CONTROL_CHARACTERS: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
_MULTILINE: Final = ("exception", "stack")


class LoggingSettings(PolicySettings):
    """What is logged, and how.

    level   debug, info, warning or error
    format  json, text, or auto: text where standard error is a terminal
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


def configure_logging(settings: LoggingSettings, stream: TextIO | None = None) -> None:
    """Sends what structlog and the standard library log through one chain to standard error (or `stream`).

    To be called once at the start of a process; called again it replaces what it did before. uvicorn must be run with
    log_config=None, or it takes its loggers back.
    """
    stream = sys.stderr if stream is None else stream
    is_text = settings.format == "text" or (settings.format == "auto" and stream.isatty())
    renderer: structlog.typing.Processor
    if is_text:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        last: list[structlog.typing.Processor] = [_escape_control_characters, renderer]
    else:
        last = [structlog.processors.JSONRenderer(sort_keys=False)]
    first: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *first],  # what `extra=` holds becomes fields
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _drop_color_message,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,  # before secrets are removed: an exception may quote some
            remove_secrets,
            *last,
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        if getattr(old, "_of_mobile_multimodal", False):
            root.removeHandler(old)
    handler._of_mobile_multimodal = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    for name in _SILENCED:
        logging.getLogger(name).disabled = True
    for name in _ONLY_WARNINGS:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    structlog.configure(
        processors=[*first, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


@contextlib.contextmanager
def bound_to_request(request_id: str) -> Iterator[None]:
    """Adds the id of a request to whatever is logged meanwhile, by tasks that are started meanwhile as well."""
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        yield


def remove_secrets(_: Any, __: str, event: _EventDict) -> _EventDict:
    """A structlog processor: every value as redaction.without_secrets leaves it."""
    return {str(name): without_secrets(value, str(name)) for name, value in event.items()}


def _drop_color_message(_: Any, __: str, event: _EventDict) -> _EventDict:
    event.pop("color_message", None)  # uvicorn says everything twice, once in colours
    return event


def _escape_control_characters(_: Any, __: str, event: _EventDict) -> _EventDict:
    return {
        name: value.translate(_CONTROL_CHARACTERS) if isinstance(value, str) and name not in _MULTILINE else value
        for name, value in event.items()
    }
