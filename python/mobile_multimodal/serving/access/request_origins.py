"""Refuses what another web page sends through a visitor's browser: a server without keys trusts whoever reaches it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator

from mobile_multimodal.errors import PermissionDeniedError
from mobile_multimodal.serving.configuration.policy_settings import PolicySettings
from mobile_multimodal.serving.http.security_headers import Origin

LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")  # browsers do not let the other page read their answers


def _check_host(host: str) -> str:
    name = host.removeprefix("*.")
    if not name or any(character in name for character in "/@*[] ") or (":" in name and name.count(":") == 1):
        raise ValueError("expected a name or an address without a port, for example captions.example or *.example")
    return host


Host = Annotated[str, AfterValidator(_check_host)]


class RequestOriginSettings(PolicySettings):
    """Under which names the server is reached, and which other pages may send it something.

    allowed_hosts    names in the field Host, `*.suffix` for all below; none lets all through. On loopback the
                     application takes LOOPBACK_HOSTS: a page that points its own name at 127.0.0.1 (DNS rebinding)
                     would otherwise read the answers as its own.
    allowed_origins  pages of other hosts that may send requests; the same list as for CORS
    """

    allowed_hosts: tuple[Host, ...] = ()
    allowed_origins: tuple[Origin, ...] = ()


class RequestOrigins:
    """Decides by Host and Origin. Programs that are no browsers send no Origin, and pass."""

    def __init__(self, settings: RequestOriginSettings) -> None:
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts if not host.startswith("*."))
        self._suffixes = tuple(host[1:].lower() for host in settings.allowed_hosts if host.startswith("*."))
        self._origins = frozenset(origin.lower() for origin in settings.allowed_origins)

    def check(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """PermissionDeniedError for a request to a name that is not ours, or from a page that is not ours."""
        hosts, origins = [], []
        for name, value in headers:
            if name.lower() == b"host":
                hosts.append(value.decode("latin-1").strip().lower())
            elif name.lower() == b"origin":
                origins.append(value.decode("latin-1").strip().lower())
        host = hosts[0] if len(hosts) == 1 else ""
        if (self._hosts or self._suffixes) and not self._is_ours(_name_of(host)):
            raise PermissionDeniedError(
                "the server is not reached by the name in the field Host", "add the name to allowed_hosts"
            )
        if not origins or method in _SAFE_METHODS:
            return
        if len(origins) == 1 and (origins[0] in self._origins or (host and urlsplit(origins[0]).netloc == host)):
            return
        raise PermissionDeniedError(
            "a web page of another host may not send requests", "add its origin to allowed_origins"
        )

    def _is_ours(self, name: str) -> bool:
        return name in self._hosts or name.endswith(self._suffixes)


def _name_of(host: str) -> str:
    """The name in a Host field: without its port, and an IPv6 address without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
