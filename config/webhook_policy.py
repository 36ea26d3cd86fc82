"""Webhook policy: targets are public addresses by HTTPS, and those that the operator allows besides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

import msgspec

Address = IPv4Address | IPv6Address
_URL: Final = re.compile(r"[!-~]+")
_LENGTH_MAX: Final = 500
_HOST: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?", re.ASCII)
_PORTS: Final = {"https": 443, "http": 80}
# Networks that Python, or an older version, takes for global, although they may lead into the operator's own network:
# ways to reach IPv4 by IPv6 (RFC 6052, RFC 8215, RFC 3056, RFC 4380, RFC 4291), former and later special networks, and
# a cloud's own service at an address that looks public.
_NOT_PUBLIC: Final = tuple(
    ip_network(text)
    for text in (
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "::/96",
        "fec0::/10",
        "3fff::/20",
        "5f00::/16",
        "192.88.99.0/24",
        "168.63.129.16/32",
    )
)


class Target(msgspec.Struct, frozen=True):
    """A parsed webhook address. `path` is the request's target, its query included."""

    scheme: str
    host: str
    port: int
    path: str


class TargetError(Exception):
    """A forbidden webhook target. The text says why, as a part of a sentence for the client."""


class WebhookTargets:
    """The permitted targets. `allowed`: names of hosts, addresses and networks, at any port and also by http."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._hosts: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in allowed:
            try:
                self._networks.append(ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                if not _HOST.fullmatch(entry.lower()):
                    raise ValueError(f"{entry!r} is neither a host's name, nor an address, nor a network") from None
                self._hosts.add(entry.lower().rstrip("."))

    def target(self, url: str, *, length_max: int = _LENGTH_MAX) -> Target:
        """Return the target of a webhook's URL, or of another one that a client names. Raises `TargetError`."""
        target = _parsed(url, length_max)
        address = _literal(target.host)
        if self._named(target.host) or (address is not None and self._within(address)):
            return target
        if target.scheme != "https":
            raise TargetError("Must begin with https://")
        if target.port != _PORTS["https"]:
            raise TargetError("Must be at port 443")
        if address is not None and not is_public(address):
            raise TargetError("Must be a public address")
        return target

    def permits(self, host: str, addresses: Sequence[Address]) -> bool:
        """Return True if a host with these addresses is permitted: one that is not public forbids the whole host."""
        return bool(addresses) and (
            self._named(host) or all(is_public(address) or self._within(address) for address in addresses)
        )

    def _named(self, host: str) -> bool:
        return host.rstrip(".") in self._hosts

    def _within(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)


def is_public(address: Address) -> bool:
    """Return True for a public address, one that is routed in the internet."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return not any(address.version == network.version and address in network for network in _NOT_PUBLIC)


def _parsed(url: str, length_max: int) -> Target:
    if len(url) > length_max or not _URL.fullmatch(url) or "\\" in url:
        raise TargetError(f"Must be an address of at most {length_max} visible ASCII characters")
    try:
        split = urlsplit(url)
        host, port = split.hostname or "", split.port
    except ValueError:
        raise TargetError("Must be an address such as https://example.org/hook") from None
    if split.scheme not in _PORTS or not (_HOST.fullmatch(host) or _literal(host)):
        raise TargetError("Must be an address such as https://example.org/hook")
    if "@" in split.netloc or split.fragment or port == 0:
        raise TargetError("Must have no user, no fragment and no port 0")
    path = (split.path or "/") + (f"?{split.query}" if split.query else "")
    return Target(split.scheme, host, _PORTS[split.scheme] if port is None else port, path)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
