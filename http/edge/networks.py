"""Networks of clients, by which their demand is counted."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

# Texts of IPv6 addresses are read once for each connection or request. Strangers must not fill the memory with them.
_KEPT_MAX: Final = 8_192
_NEAR_BYTES: Final = 8
_WIDE_BYTES: Final = 6


class Origin(NamedTuple):
    """Origin of a client, as keys of counts: `near` is its IPv4 address or /64, `wide` its /48, or "" for IPv4.

    A provider gives each customer a whole /64 or /48. Counted by address, one customer would be 2^64 clients or more.
    """

    near: str
    wide: str


UNKNOWN: Final = Origin("", "")
"""The origin of clients that can't be told apart, as on a unix socket: it is counted only in all."""


def origin_of(host: str) -> Origin:
    """Return the origin of an address, which may be an IPv4 address as a dual-stack socket shows it."""
    return _origin_of_ipv6(host) if ":" in host else Origin(host, "")


@lru_cache(_KEPT_MAX)
def _origin_of_ipv6(host: str) -> Origin:
    try:
        address = ip_address(host)
    except ValueError:
        return UNKNOWN
    if not isinstance(address, IPv6Address):
        return Origin(host, "")
    if address.ipv4_mapped is not None:
        return Origin(str(address.ipv4_mapped), "")
    packed = address.packed
    return Origin(f"{packed[:_NEAR_BYTES].hex()}/64", f"{packed[:_WIDE_BYTES].hex()}/48")
