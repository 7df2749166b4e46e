"""Makes API keys (`python -m mobile_multimodal.serving.access.api_keys NAME`) and knows them again by their SHA-256."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mobile_multimodal.errors import InvalidInputError

# 32 random bytes: nobody guesses them, so a fast hash without salt keeps them as well as a slow one.
_KEY_BYTES: Final = 32
_KEY_PREFIX: Final = "mm_"  # lets a scanner of secrets find a key that was committed somewhere
_MAX_PRESENTED: Final = 512
_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ApiKeyEntry:
    """One line of the file: whose key, its SHA-256, what the owner may do."""

    name: str
    digest: str
    roles: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ":".join((self.name, self.digest, *([",".join(self.roles)] if self.roles else [])))


def make_api_key(name: str, roles: Iterable[str] = ()) -> tuple[str, ApiKeyEntry]:
    """A new key, to be shown once to its owner and kept nowhere, and its entry for the file."""
    roles = tuple(roles)
    for text in (name, *roles):
        if not _NAME.fullmatch(text):
            raise InvalidInputError(
                f"{text!r} cannot name the owner of a key or a role, expected 1 to 64 letters, digits or . _ @ -",
                "for example camera-team",
            )
    key = _KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return key, ApiKeyEntry(name=name, digest=_digest(key), roles=roles)


class ApiKeys:
    """The keys of one file, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = _version_of(path)
        self.entries = read_api_keys(path)

    def reload_if_changed(self) -> bool:
        """Whether the file had changed and was read; a file with mistakes raises and leaves the keys as they were."""
        version = _version_of(self._path)
        if version == self._version:
            return False
        self._version = version  # first: a file with mistakes is complained of once, not at every request
        self.entries = read_api_keys(self._path)
        return True

    def find(self, key: str) -> ApiKeyEntry | None:
        """The entry of a key that somebody presents; takes the same time wherever in the file it stands."""
        if not 0 < len(key) <= _MAX_PRESENTED:
            return None
        digest = _digest(key)
        found = None
        for entry in self.entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        return found


def read_api_keys(path: Path) -> tuple[ApiKeyEntry, ...]:
    """The lines `name:sha256hex[:role,role]` of a file; empty lines and lines that begin with # are passed over.

    InvalidInputError lists every line that is wrong, by number alone: somebody may have put a key there in clear.
    Two keys may have one name, so that a key can be changed without a gap.
    """
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"the file of API keys {path} cannot be read: {type(error).__name__}",
            "make lines for it with `python -m mobile_multimodal.serving.access.api_keys NAME`",
        ) from error
    problems = []
    if mode & stat.S_IWOTH:
        problems.append("anybody on this machine may write to it")
    entries: dict[str, ApiKeyEntry] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        entry = _parse(text)
        if entry is None:
            problems.append(f"line {number} is not name:sha256hex or name:sha256hex:role")
        elif entry.digest in entries:
            problems.append(f"line {number} has the same key as an earlier line")
        else:
            entries[entry.digest] = entry
    if not entries and not problems:
        problems.append("it holds no key")
    if problems:
        raise InvalidInputError(
            f"the file of API keys {path} is wrong: {'; '.join(problems)}",
            "chmod o-w the file, or make lines for it with `python -m mobile_multimodal.serving.access.api_keys NAME`",
        )
    return tuple(entries.values())


def _parse(text: str) -> ApiKeyEntry | None:
    name, _, rest = text.partition(":")
    digest, colon, roles_text = rest.partition(":")
    roles = tuple(roles_text.split(",")) if colon else ()
    if not all(_NAME.fullmatch(part) for part in (name, *roles)) or not _DIGEST.fullmatch(digest):
        return None
    return ApiKeyEntry(name=name, digest=digest, roles=roles)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", errors="surrogatepass")).hexdigest()


def _version_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def main(arguments: list[str]) -> int:
    """Prints the line for the file to standard output, and the key, once, to standard error."""
    if not 1 <= len(arguments) <= 2 or arguments[0].startswith("-"):
        print(
            "usage: python -m mobile_multimodal.serving.access.api_keys NAME [ROLE,...] >> KEYS_FILE", file=sys.stderr
        )
        return 2
    try:
        key, entry = make_api_key(arguments[0], arguments[1].split(",") if len(arguments) == 2 else ())
    except InvalidInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(entry)
    print(f"the key of {entry.name}, shown this once: {key}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
