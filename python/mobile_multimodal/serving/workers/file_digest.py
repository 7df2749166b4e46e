"""Names a file by the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

_CHUNK_BYTES: Final = 1 << 20  # read, not mapped: a mapping would count as the worker's memory


def sha256_of_file(path: Path) -> str:
    """64 hexadecimal digits, as `sha256sum` prints them."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
