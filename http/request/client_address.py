"""Client address of a request, and the keyed digest of it: only the digest is stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from ..edge.networks import UNKNOWN, Origin, origin_of
from .unknown_proxies import FORWARDED, UnknownProxies

Address = IPv4Address | IPv6Address

_DIGEST_BYTES: Final = 16
# A provider gives each customer a whole /64. Counted by address, one customer would be 2^64 clients.
_IPV6_SHARED_BITS: Final = 64
# Some give a /48.
_IPV6_WIDE_BITS: Final = 48


class ClientAddresses:
    """Addresses of clients, also behind proxies that the operator trusts. Others are refused, with `unknown`."""

    def __init__(self, trusted_proxies: Iterable[str], id_key: bytes, unknown: UnknownProxies | None = None) -> None:
        self._trusted = [ip_network(proxy, strict=False) for proxy in trusted_proxies]
        self._id_key = id_key
        self._unknown = unknown

    def digest(self, connection: HTTPConnection) -> str:
        """Return a keyed digest of the address, to count and store. It can't be reversed without the key.

        Raises `RefusedError` for an address that is not the client's but that of an unknown proxy.
        """
        self._refuse_unknown(connection)
        address = self.address(connection)
        if isinstance(address, IPv6Address):
            known = b"6" + address.packed[: _IPV6_SHARED_BITS // 8]
        else:
            known = b"4" + address.packed if address is not None else b""
        return self._digest(known)

    def _refuse_unknown(self, connection: HTTPConnection) -> None:
        peer = _parse(connection.client.host) if connection.client is not None else None
        if self._unknown is not None and (peer is None or not self._is_trusted(peer)):
            self._unknown.refuse(peer, connection.headers)

    def known_origin(self, scope: Scope) -> Origin:
        """Return the origin of a request. Raises `RefusedError` as `digest` does."""
        self._refuse_unknown(HTTPConnection(scope))
        return self.origin(scope)

    def wide_digest(self, connection: HTTPConnection) -> str | None:
        """Return a keyed digest of the client's /48; None with IPv4."""
        address = self.address(connection)
        if not isinstance(address, IPv6Address):
            return None
        return self._digest(b"6" + address.packed[: _IPV6_WIDE_BITS // 8])

    def _digest(self, known: bytes) -> str:
        digest = hmac.digest(self._id_key, b"client\n" + known, hashlib.sha256)[:_DIGEST_BYTES]
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def address(self, connection: HTTPConnection) -> Address | None:
        """Return the client's address; None when the connection has none, as on a unix socket.

        Any client can send an X-Forwarded-For. Each proxy appends the address that it saw, so the entries are trusted
        from the right for as long as their writer is a trusted proxy.
        """
        seen = _parse(connection.client.host) if connection.client is not None else None
        if seen is None or not self._is_trusted(seen):
            return seen
        for entry in _from_the_right(connection.headers.getlist("x-forwarded-for")):
            address = _parse(entry)
            if address is None:
                break
            seen = address
            if not self._is_trusted(seen):
                break
        return seen

    def origin(self, scope: Scope) -> Origin:
        """Return where a request comes from, to count it; without a trusted proxy that is its connection's address."""
        client = scope.get("client")
        if client is None:
            return UNKNOWN
        if self._unknown is not None and any(name in FORWARDED for name, _ in scope["headers"]):
            peer = _parse(client[0])
            if not (peer is not None and self._is_trusted(peer)) and self._unknown.hides(peer, Headers(scope=scope)):
                # Counted by the proxy's address, all of its clients would share the bounds of one.
                return UNKNOWN
        if not self._trusted:
            return origin_of(client[0])
        address = self.address(HTTPConnection(scope))
        return UNKNOWN if address is None else origin_of(str(address))

    def scheme(self, connection: HTTPConnection) -> str:
        """Return the scheme of the client's request: a trusted proxy tells it, as it ends the encryption."""
        seen = _parse(connection.client.host) if connection.client is not None else None
        told = connection.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
        if seen is not None and self._is_trusted(seen) and told in ("http", "https"):
            return told
        return connection.url.scheme

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _from_the_right(headers: list[str]) -> Iterator[str]:
    return reversed([entry.strip() for header in headers for entry in header.split(",")])


def _parse(text: str) -> Address | None:
    """Parse an address with or without a port, as some proxies append one."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d.
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
