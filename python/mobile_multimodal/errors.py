"""Names every failure a caller can meet, and maps it to a core status, an exit code and an HTTP status.

MobileMultiModalError
├── InvalidInputError            the caller's value is wrong
│   ├── InvalidImageError        the picture cannot be read as one
│   │   └── ImageTooLargeError   the picture passes a bound on bytes or pixels
│   └── FrameSourceError         the caller's source of frames failed
├── ModelFormatError             the model file is damaged, hostile or of another version
├── GalleryFormatError           the index of a gallery is damaged, hostile or of another version
├── NotFoundError                a file, program or tensor does not exist
│   └── ModelNotFoundError       no model of that name or at that path
├── OutOfMemoryError             an allocation failed or would pass a bound
├── OperationCancelledError      the caller asked to stop
├── DeadlineExceededError        the deadline passed before the work was done
├── UnsupportedError             valid, but not available in this build, on this CPU or in this model
│   └── MissingExtraError        the packages of an extra are not installed
├── UnavailableError             a server cannot take the request now; `retry_after_seconds` says when to come back
│   ├── QueueFullError           as many requests wait as the server lets wait
│   ├── WorkerLostError          the process that worked on the request died, twice
│   ├── DrainingError            the server is stopping
│   └── RateLimitedError         this caller has asked too often
├── AccessError                  who asks does not allow the request
│   ├── UnauthenticatedError     no key or token, or one that is not valid
│   └── PermissionDeniedError    known, but not allowed to do this
└── InternalError                a broken promise of the library itself
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final


class MobileMultiModalError(Exception):
    """A failure: `message` names the thing, the value and the expectation, `hint` the next step."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)  # both in `args`, so that the error survives pickling
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class InvalidInputError(MobileMultiModalError):
    """The caller's value is wrong."""


class InvalidImageError(InvalidInputError):
    """The picture cannot be read as one."""


class ImageTooLargeError(InvalidImageError):
    """The picture passes a bound on bytes or pixels."""


class FrameSourceError(InvalidInputError):
    """The caller's source of frames failed; its exception is the `__cause__`."""


class ModelFormatError(MobileMultiModalError):
    """The model file is damaged, hostile or of another version."""


class GalleryFormatError(MobileMultiModalError):
    """The index of a gallery is damaged, hostile or of another version."""


class NotFoundError(MobileMultiModalError):
    """A file, program or tensor does not exist."""


class ModelNotFoundError(NotFoundError):
    """No model of that name or at that path."""


class OutOfMemoryError(MobileMultiModalError):
    """An allocation failed or would pass a bound."""


class OperationCancelledError(MobileMultiModalError):
    """The caller asked to stop."""


class DeadlineExceededError(MobileMultiModalError):
    """The deadline passed before the work was done."""


class UnsupportedError(MobileMultiModalError):
    """Valid, but not available in this build, on this CPU or in this model."""


class MissingExtraError(UnsupportedError):
    """The packages of an extra are not installed."""


class UnavailableError(MobileMultiModalError):
    """A server cannot take the request now; `retry_after_seconds` says when to come back."""

    def __init__(self, message: str, hint: str = "", *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message, hint)
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.retry_after_seconds))


class QueueFullError(UnavailableError):
    """As many requests wait as the server lets wait."""


class WorkerLostError(UnavailableError):
    """The process that worked on the request died, twice."""


class DrainingError(UnavailableError):
    """The server is stopping."""


class RateLimitedError(UnavailableError):
    """This caller has asked too often."""


class AccessError(MobileMultiModalError):
    """Who asks does not allow the request."""


class UnauthenticatedError(AccessError):
    """No key or token, or one that is not valid."""


class PermissionDeniedError(AccessError):
    """Known, but not allowed to do this."""


def _rebuild(
    error_type: type[UnavailableError], message: str, hint: str, retry_after_seconds: float
) -> UnavailableError:
    return error_type(message, hint, retry_after_seconds=retry_after_seconds)


class InternalError(MobileMultiModalError):
    """A broken promise of the library itself."""


# The numbers of core/src/base/status.h; 0 is success and has no exception.
ERROR_OF_STATUS: Final[dict[int, type[MobileMultiModalError]]] = {
    1: InvalidInputError,
    2: ModelFormatError,
    3: NotFoundError,
    4: OutOfMemoryError,
    5: OperationCancelledError,
    6: DeadlineExceededError,
    7: UnsupportedError,
    8: InternalError,
}

# 2 is also what argparse answers to a wrong command line; 130 is what a shell reports after Ctrl-C.
EXIT_CODE_OF_ERROR: Final[dict[type[MobileMultiModalError], int]] = {
    InvalidInputError: 2,
    InvalidImageError: 3,
    ModelFormatError: 4,
    NotFoundError: 5,
    OutOfMemoryError: 6,
    DeadlineExceededError: 7,
    UnsupportedError: 8,
    GalleryFormatError: 9,
    UnavailableError: 10,
    AccessError: 11,
    InternalError: 70,
    OperationCancelledError: 130,
}

# A damaged model file or index is the server's fault, not the caller's: 500. 499 is "client closed request" as
# proxies log it.
HTTP_STATUS_OF_ERROR: Final[dict[type[MobileMultiModalError], int]] = {
    InvalidInputError: 400,
    InvalidImageError: 422,
    ImageTooLargeError: 413,
    ModelFormatError: 500,
    GalleryFormatError: 500,
    NotFoundError: 404,
    OutOfMemoryError: 503,
    OperationCancelledError: 499,
    DeadlineExceededError: 504,
    UnsupportedError: 501,
    UnavailableError: 503,
    AccessError: 403,
    UnauthenticatedError: 401,
    RateLimitedError: 429,
    InternalError: 500,
}


def error_from_status(code: int, message: str, hint: str = "") -> MobileMultiModalError:
    """The exception for a failed core status; a code this version does not know is an InternalError."""
    error_type = ERROR_OF_STATUS.get(code)
    if error_type is None:
        return InternalError(f"the core failed with unknown status {code}: {message}", hint)
    return error_type(message, hint)


def _nearest(table: dict[type[MobileMultiModalError], int], error: BaseException, default: int) -> int:
    for error_type in type(error).__mro__:
        if error_type in table:
            return table[error_type]
    return default


def exit_code_of(error: BaseException) -> int:
    """The exit code of the command line for an error: its own, or that of the nearest ancestor in the table."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_CODE_OF_ERROR[OperationCancelledError]
    return _nearest(EXIT_CODE_OF_ERROR, error, EXIT_CODE_OF_ERROR[InternalError])


def http_status_of(error: BaseException) -> int:
    """The HTTP status for an error: its own, or that of the nearest ancestor in the table."""
    return _nearest(HTTP_STATUS_OF_ERROR, error, HTTP_STATUS_OF_ERROR[InternalError])


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the closest known name, or with all of them when none is close."""
    import difflib  # not at the top: most programs start and end without a mistake

    names = list(known)
    matches = difflib.get_close_matches(name, names, n=1)
    if matches:
        return f"did you mean '{matches[0]}'?"
    return f"known: {', '.join(names)}" if names else ""
