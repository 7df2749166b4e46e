"""Tells addresses of the public internet from all those that lead inside."""

from __future__ import annotations

import ipaddress
from typing import Final

# Not left to ipaddress.is_global: its answers differ between versions of Python (3.11.7 calls multicast global), and it
# does not know the last one. Source: the IANA registries of special-purpose addresses.
_REFUSED_IPV4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by providers; also where Alibaba keeps its metadata
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local: the metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "168.63.129.16/32",  # public by number, but on Azure it is the host's own service
    )
)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # everything else in IPv6 is special or not assigned
_REFUSED_IPV6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, among them Teredo (2001::/32), which holds an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which holds an IPv4 address
        "3fff::/20",  # documentation
    )
)
_ISATAP: Final = (0x00005EFE, 0x02005EFE)  # the third quarter of an address whose last quarter is an IPv4 address


def is_public(address: str) -> bool:
    """Whether an address, as a resolver gives it, is one of the public internet.

    False for whatever is not plain: zone ids, and IPv6 forms that hold an IPv4 address (mapped ::ffff:0:0/96,
    compatible ::/96, NAT64 64:ff9b::/96 and 64:ff9b:1::/48, 6to4, Teredo, ISATAP), even a public one. Also for
    spellings that only some parsers take for an address, such as 0177.0.0.1 or 2130706433.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed.is_global and not any(parsed in network for network in _REFUSED_IPV4)
    if parsed.scope_id is not None or parsed not in _GLOBAL_UNICAST:
        return False
    if int(parsed) >> 32 & 0xFFFFFFFF in _ISATAP:
        return False
    return parsed.is_global and not any(parsed in network for network in _REFUSED_IPV6)
