"""Holds the public keys that tokens are checked with, from a file or an issuer's URL, and fetches new ones in time."""

from __future__ import annotations

import asyncio
import contextvars
import ipaddress
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

from mobile_multimodal.errors import InvalidInputError, UnavailableError

_log = logging.getLogger(__name__)

MAX_KEY_SET_BYTES: Final = 256 * 1024  # an issuer has two or three keys of about 1 KB
_ASYMMETRIC: Final = ("RSA", "EC", "OKP")
_MIN_RSA_BITS: Final = 2048


class TokenKeys:
    """A JWK set (RFC 7517) by key id.

    A URL is fetched again after `refresh_seconds`, in the background, and when a token names a key id that is not
    known, but never more often than every `min_refresh_seconds`: made-up ids cost the issuer nothing. While fetching
    fails the keys that are known stay, for `max_age_seconds`.
    """

    def __init__(
        self,
        source: str,
        *,
        refresh_seconds: float = 600.0,
        min_refresh_seconds: float = 30.0,
        max_age_seconds: float = 86400.0,
        timeout_seconds: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._is_url = "://" in source
        self._refresh_seconds = refresh_seconds
        self._min_refresh_seconds = min_refresh_seconds
        self._max_age_seconds = max_age_seconds
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._keys: dict[str | None, list[Key]] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._refresh: asyncio.Task[None] | None = None
        if not self._is_url:
            self._take(_read_file(Path(source)))  # a wrong file is a mistake of the settings, told at the start

    async def find(self, key_id: str | None) -> Key | None:
        """The key of that id, or without an id the only key there is; None when there is no such key.

        UnavailableError when there are no keys at all to decide with.
        """
        now = self._clock()
        found = self._lookup(key_id)
        too_old = self._read_at is not None and now - self._read_at > self._max_age_seconds and self._is_url
        may_try = self._tried_at is None or now - self._tried_at >= self._min_refresh_seconds
        if found is None or too_old:
            if self._refresh is not None or may_try:
                await self._wait_for_refresh()
                found = self._lookup(key_id)
        elif self._is_url and may_try and self._read_at is not None and now - self._read_at > self._refresh_seconds:
            self._start_refresh()  # nobody waits: the keys at hand are good
        if self._read_at is None or (self._is_url and self._clock() - self._read_at > self._max_age_seconds):
            raise UnavailableError(
                "tokens cannot be checked now: their issuer's keys are out of reach",
                "try again shortly",
                retry_after_seconds=max(1.0, min(self._min_refresh_seconds, 60.0)),
            )
        return found

    async def close(self) -> None:
        """Ends a fetch that is under way."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.wait({self._refresh})

    def _lookup(self, key_id: str | None) -> Key | None:
        if key_id is None:
            every = [key for keys in self._keys.values() for key in keys]
            return every[0] if len(every) == 1 else None
        keys = self._keys.get(key_id, [])
        return keys[0] if len(keys) == 1 else None  # two keys of one id: no telling which is meant

    def _start_refresh(self) -> asyncio.Task[None]:
        if self._refresh is None:
            self._tried_at = self._clock()
            # In a context of its own: what it logs belongs to no request.
            self._refresh = contextvars.Context().run(asyncio.get_running_loop().create_task, self._read_again())
            self._refresh.add_done_callback(self._refresh_ended)
        return self._refresh

    def _refresh_ended(self, task: asyncio.Task[None]) -> None:
        self._refresh = None
        if not task.cancelled() and task.exception() is not None:
            _log.error("reading the token keys failed", exc_info=task.exception())

    async def _wait_for_refresh(self) -> None:
        await asyncio.shield(self._start_refresh())

    async def _read_again(self) -> None:
        try:
            text = await self._fetch() if self._is_url else _read_file(Path(self._source))
            self._take(text)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError, InvalidInputError) as error:
            _log.warning("the token keys were not read again: %s", type(error).__name__)

    async def _fetch(self) -> bytes:
        # A session for each fetch: there is one in minutes, and no connection is left open between.
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(self._source, allow_redirects=False, headers={"Accept": "application/json"}) as response,
        ):
            if response.status != 200:
                raise InvalidInputError(f"the issuer's keys came with status {response.status}, expected 200")
            body = bytearray()
            async for piece in response.content.iter_chunked(16 * 1024):
                body += piece
                if len(body) > MAX_KEY_SET_BYTES:
                    raise InvalidInputError(f"the issuer's keys are more than {MAX_KEY_SET_BYTES} bytes")
            return bytes(body)

    def _take(self, text: bytes) -> None:
        self._keys = parse_key_set(text)
        self._read_at = self._clock()


def parse_key_set(text: bytes) -> dict[str | None, list[Key]]:
    """The public signature keys of a JWK set by id; symmetric, short and unreadable ones are left out.

    InvalidInputError when none is left.
    """
    try:
        entries = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInputError("the token keys are no JSON object with a list `keys`", "see RFC 7517") from error
    keys: dict[str | None, list[Key]] = {}
    for entry in entries if isinstance(entries, list) else []:
        key = _signature_key(entry)
        if key is not None:
            keys.setdefault(entry.get("kid"), []).append(key)
    if not keys:
        raise InvalidInputError(
            "the token keys hold no public key for signatures", f"expected keys of the types {', '.join(_ASYMMETRIC)}"
        )
    return keys


def check_key_source(source: str) -> str:
    """Refuses anything but the path of a file, an https URL, or an http URL of this machine."""
    if "://" not in source:
        return source
    parts = urlsplit(source)
    if parts.username or parts.password:
        raise ValueError("expected a URL without a user name or password")
    if parts.scheme == "https" and parts.hostname:
        return source
    if parts.scheme == "http" and parts.hostname and _is_loopback(parts.hostname):
        return source
    raise ValueError("expected the path of a JWK set, an https URL, or an http URL of this machine (127.0.0.1)")


def _signature_key(entry: Any) -> Key | None:
    if not isinstance(entry, dict) or entry.get("kty") not in _ASYMMETRIC:
        return None  # a symmetric key in a public set is what HS/RS confusion lives on
    if entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid"), (str, type(None))):
        return None
    if entry["kty"] == "RSA" and len(str(entry.get("n"))) * 6 < _MIN_RSA_BITS:  # base64url: 6 bits a character
        return None
    try:
        key = JWKRegistry.import_key(entry)
        return JWKRegistry.import_key(key.as_dict(private=False))  # the private half, if any, is not kept
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()[: MAX_KEY_SET_BYTES + 1]
    except OSError as error:
        raise InvalidInputError(
            f"the file of token keys {path} cannot be read: {type(error).__name__}", "give the path of a JWK set"
        ) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
