"""Finds the address that a request came from, believing only proxies that the operator named."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import AfterValidator

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# One customer of a provider gets a /64 at least: counted by single address he would be 2**64 callers.
_IPV6_PREFIX: Final = 64
_MAX_HOPS: Final = 32
LOCAL: Final = "local"  # a Unix socket has no address


def _check_network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("expected an address or a network, for example 10.0.0.7 or 10.0.0.0/8") from None
    return text


Network = Annotated[str, AfterValidator(_check_network)]


class ClientAddresses:
    """Reads X-Forwarded-For where, and only where, a trusted proxy wrote it."""

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        self._trusted = tuple(ipaddress.ip_network(network) for network in trusted_proxies)

    def name_of(self, peer: str | None, forwarded_for: Iterable[str] = ()) -> str:
        """The client's address, an IPv6 one as its network of 64 bits.

        peer           the other end of the connection; None for a Unix socket
        forwarded_for  the values of X-Forwarded-For in their order. They count from the right: each proxy appends whom
                       it heard from, so the last entry that is no trusted proxy is the client, and what stands left of
                       it is whatever the client made up.
        """
        address = _parse(peer) if peer is not None else None
        if address is None:
            return LOCAL if peer is None else peer[:64]
        if self._trusts(address):
            hops = [hop for value in forwarded_for for hop in value.split(",")]
            for hop in reversed(hops[-_MAX_HOPS:]):
                parsed = _parse(hop)
                if parsed is None:
                    break  # what wrote this cannot be asked: the proxy before it is the last that is known
                address = parsed
                if not self._trusts(address):
                    break
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
        return str(address)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def _parse(text: str) -> _Address | None:
    """An address as proxies write it: bare, with a port, in brackets, with a zone; None for anything else."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
