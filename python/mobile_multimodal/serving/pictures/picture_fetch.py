"""Fetches a picture from an https URL of an allowed host, and from nowhere that an address inside could hide behind."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import AfterValidator, Field
from yarl import URL

from mobile_multimodal.errors import DeadlineExceededError, ImageTooLargeError, InvalidInputError
from mobile_multimodal.serving.configuration.policy_settings import PolicySettings
from mobile_multimodal.serving.pictures.public_addresses import is_public

MAX_URL: Final = 2048
_MAX_ADDRESSES: Final = 16
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_PLAIN_URL: Final = re.compile(r"https://[!-\[\]-~]+", re.IGNORECASE)  # printable ASCII without spaces or backslashes
_NAME: Final = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")

Lookup = Callable[[str, int], Awaitable[list[str]]]
SocketFactory = Callable[[Any], socket.socket]


def _check_host(host: str) -> str:
    if not _NAME.fullmatch(host.lower()) or len(host) > 253:
        raise ValueError("expected a name such as images.example or *.images.example (no address, no port, no *)")
    return host.lower()


Host = Annotated[str, AfterValidator(_check_host)]


class PictureFetchSettings(PolicySettings):
    """Which pictures may be named by URL; none by default.

    allowed_hosts    names, `*.suffix` for all below a name (not itself); empty turns fetching off
    ports            443 unless more are named
    max_bytes        a larger file is ImageTooLargeError
    timeout_seconds  for all of it: looking up, connecting, redirects, the body
    max_redirects    each goes through the same checks
    max_at_once      fetches under way in this process; more wait, within their time
    """

    allowed_hosts: tuple[Host, ...] = ()
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(default=(443,), min_length=1)
    max_bytes: int = Field(default=20 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)
    timeout_seconds: float = Field(default=5.0, gt=0, le=60, allow_inf_nan=False)
    max_redirects: int = Field(default=3, ge=0, le=3)
    max_at_once: int = Field(default=8, ge=1, le=256)

    @property
    def is_enabled(self) -> bool:
        """Whether any host is allowed."""
        return bool(self.allowed_hosts)


class PictureFetch:
    """Fetches by the rules.

    The name is looked up once a connection, every address found must be public, and exactly these are dialled, while
    TLS still checks the certificate against the name: between check and use nothing can change.
    """

    def __init__(
        self,
        settings: PictureFetchSettings,
        *,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
        socket_factory: SocketFactory | None = None,
    ) -> None:
        """lookup, tls and socket_factory stand in for the system's resolver, trust store and sockets."""
        self._settings = settings
        self._names = frozenset(host for host in settings.allowed_hosts if not host.startswith("*."))
        self._suffixes = tuple(host[1:] for host in settings.allowed_hosts if host.startswith("*."))
        self._resolver = PublicResolver(lookup)
        self._tls = tls
        self._socket_factory = socket_factory
        self._places = asyncio.Semaphore(settings.max_at_once)

    async def fetch(self, url: str) -> bytes:
        """The bytes of the picture.

        Raises InvalidInputError (a URL that is not allowed, or no picture there: the words are the same whatever went
        wrong behind the host, so that nobody can look around inside with it), ImageTooLargeError, and
        DeadlineExceededError.
        """
        first = self._checked(url)
        try:
            return await asyncio.wait_for(self._fetch(first), self._settings.timeout_seconds)
        except asyncio.TimeoutError:
            raise DeadlineExceededError(
                f"the picture did not come from {first.host} within {self._settings.timeout_seconds:g} s",
                "send the picture itself",
            ) from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise _not_there(first) from None

    async def _fetch(self, url: URL) -> bytes:
        async with self._places:
            if self._tls is None:
                self._tls = await asyncio.to_thread(ssl.create_default_context)  # reads some hundred files
            connector = aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,
                ssl=self._tls,
                force_close=True,
                socket_factory=self._socket_factory,
            )
            async with aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # no proxy, no .netrc
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),  # `fetch` holds the clock over all of it
                headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "mobile-mm"},
            ) as session:
                for _ in range(self._settings.max_redirects + 1):
                    async with session.get(url, allow_redirects=False) as response:
                        if response.status in _REDIRECTS:
                            url = self._checked(str(url.join(URL(response.headers.get("Location", "")))))
                            continue
                        return await self._body(url, response)
        raise InvalidInputError(
            f"the picture was redirected more than {self._settings.max_redirects} times", "send the picture itself"
        )

    async def _body(self, url: URL, response: aiohttp.ClientResponse) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if response.status != 200 or not response.content_type.startswith("image/") or encoding != "identity":
            raise _not_there(url)
        most = self._settings.max_bytes
        body = bytearray()
        if (response.content_length or 0) <= most:
            async for piece in response.content.iter_chunked(64 * 1024):
                body += piece
                if len(body) > most:
                    break
            else:
                return bytes(body)
        raise ImageTooLargeError(f"the picture at {url.host} is larger than {most} bytes", "send a smaller picture")

    def _checked(self, text: str) -> URL:
        """The URL if it is allowed. It is parsed once, by the library that dials: no two parsers can disagree."""
        if not self._settings.is_enabled:
            raise InvalidInputError("this server fetches no pictures", "send the picture itself")
        if len(text) > MAX_URL or not _PLAIN_URL.fullmatch(text):
            raise InvalidInputError(
                f"the picture's URL is no https URL of at most {MAX_URL} plain characters", "send the picture itself"
            )
        try:
            url = URL(text)
            host, port = (url.raw_host or "").lower(), url.port
        except ValueError:
            raise InvalidInputError("the picture's URL cannot be read", "send the picture itself") from None
        if url.scheme != "https" or url.user is not None or url.password is not None:
            raise InvalidInputError("the picture's URL holds a user name or password", "leave them out")
        if port not in self._settings.ports:
            raise InvalidInputError("the picture's URL names a port that is not allowed", "leave the port out")
        # The pattern of names leaves out every spelling of an address: their last part begins with a digit.
        if "*" in host or not _NAME.fullmatch(host) or not (host in self._names or host.endswith(self._suffixes)):
            raise InvalidInputError("the picture's host is not allowed here", "send the picture itself")
        return url.with_fragment(None)


class PublicResolver(AbstractResolver):
    """Gives aiohttp only addresses that were checked, and it dials what it is given."""

    def __init__(self, lookup: Lookup | None = None) -> None:
        self._lookup = lookup or _system_lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name; OSError if there are none, or if one of them is not public."""
        addresses = (await self._lookup(host, port))[:_MAX_ADDRESSES]
        # One that leads inside spoils the lot: a name that mixes both kinds is no mistake.
        if not addresses or not all(is_public(address) for address in addresses):
            raise OSError("the name has no public address, or not only such")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def _system_lookup(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(_address_of(entry[4]) for entry in found))


def _address_of(name: tuple[Any, ...]) -> str:
    address = str(name[0])
    has_scope = len(name) == 4 and name[3] and "%" not in address
    return f"{address}%{name[3]}" if has_scope else address


def _not_there(url: URL) -> InvalidInputError:
    return InvalidInputError(f"there is no picture to fetch at {url.host}", "check the URL, or send the picture itself")
