"""Loads the compiled core, or says why it cannot be used here."""

from __future__ import annotations

from typing import Any

from mobile_multimodal.errors import UnsupportedError


def load_native() -> Any:
    """The module `mobile_multimodal.native`. Raises UnsupportedError: not compiled, or not for this CPU."""
    try:
        from mobile_multimodal import native
    except ImportError as error:
        raise UnsupportedError(
            f"the compiled core of the package cannot be loaded: {error}", "install the package: scripts/setup"
        ) from error
    if (isa_error := native.isa_error()) is not None:
        raise UnsupportedError(isa_error, "unset MM_FORCE_ISA: the best instruction set is chosen by itself")
    return native
