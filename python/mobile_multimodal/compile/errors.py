"""Names what the compiler cannot translate."""

from __future__ import annotations

from collections.abc import Iterable

from mobile_multimodal.errors import UnsupportedError


class UnsupportedOperationError(UnsupportedError):
    """A graph uses an operation, or a form of one, that no instruction of the core expresses."""


def unsupported(node: str, operation: str, what: str, supported: Iterable[str]) -> UnsupportedOperationError:
    """The error for a node: names the node, the operation, the trouble and what is supported."""
    return UnsupportedOperationError(
        f"node `{node}` ({operation}) cannot be translated: {what}",
        hint=f"supported: {', '.join(supported)}.",
    )
