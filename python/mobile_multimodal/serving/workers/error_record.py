"""Carries typed errors across the border between processes as plain records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mobile_multimodal.errors import InternalError, MobileMultiModalError, OutOfMemoryError, UnavailableError


def record_of_error(error: BaseException) -> dict[str, Any]:
    """The record of an error; one that is none of ours becomes the nearest that is."""
    if isinstance(error, MemoryError):
        error = OutOfMemoryError("a worker ran out of memory", "send a smaller picture, or give workers more memory")
    elif not isinstance(error, MobileMultiModalError):
        error = InternalError(
            f"a worker failed with {type(error).__name__}: {error}", "its traceback stands in the server's error output"
        )
    record: dict[str, Any] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, UnavailableError):
        record["retry_after_seconds"] = error.retry_after_seconds
    return record


def error_of_record(record: Mapping[str, Any]) -> MobileMultiModalError:
    """The error of a record, of the same type and with the same words."""
    error_type = _TYPES.get(record["type"])
    if error_type is None:
        return InternalError(f"a worker failed with an unknown {record['type']}: {record['message']}", record["hint"])
    if issubclass(error_type, UnavailableError):
        return error_type(
            record["message"], record["hint"], retry_after_seconds=float(record.get("retry_after_seconds", 1.0))
        )
    return error_type(record["message"], record["hint"])


def _family(error_type: type[MobileMultiModalError]) -> Iterator[type[MobileMultiModalError]]:
    yield error_type
    for child in error_type.__subclasses__():
        yield from _family(child)


_TYPES: Final = {
    error_type.__name__: error_type
    for error_type in _family(MobileMultiModalError)
    if error_type.__module__ == MobileMultiModalError.__module__
}
