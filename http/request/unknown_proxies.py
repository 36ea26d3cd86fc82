"""Proxies that the operator did not name: behind one, all clients would be counted as the one that the proxy is."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

import structlog
from starlette.datastructures import Headers

from ...actors.domain.errors import Code, Refusal, RefusedError

FORWARDED: Final = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip"})
"""Headers that proxies add, as they are in a request's scope."""
# Nothing but the operator mends it.
_RETRY_AFTER_S: Final = 60
WARNING: Final = (
    "Requests come through a proxy that SATMETER_TRUSTED_PROXIES does not name: whatever is counted for each client is "
    "refused until it does. The log has the proxy's address."
)
_log = structlog.get_logger(__name__)


class UnknownProxies:
    """Watch for such a proxy. It logs the first one: each request tells the same."""

    def __init__(self) -> None:
        self.seen = False

    def hides(self, peer: IPv4Address | IPv6Address | None, headers: Headers) -> bool:
        """Return whether a peer in the operator's own network passes a request on, so that its client is unknown."""
        return any(name in FORWARDED for name, _ in headers.raw) and not (peer is not None and peer.is_global)

    def refuse(self, peer: IPv4Address | IPv6Address | None, headers: Headers) -> None:
        """Raise `RefusedError` for a request that a peer in the operator's own network passes on for a client.

        A public peer may be the client itself, behind a proxy of its own.
        """
        if not self.hides(peer, headers):
            return
        if not self.seen:
            self.seen = True
            address = "the address of your proxy" if peer is None else str(peer)
            hint = f"set SATMETER_TRUSTED_PROXIES={address} and start again; until then its clients are refused"
            _log.error("proxy_not_trusted", peer=address, hint=hint)
        message = "This server can't tell its clients apart just now, which only its operator can mend."
        raise RefusedError(Refusal(Code.UNAVAILABLE, message, retry_after_s=_RETRY_AFTER_S))
