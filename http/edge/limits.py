"""Limits of what strangers can take of one front, by its settings."""

from __future__ import annotations

import resource
from typing import Final, NamedTuple

from ...config.settings import Settings
from .shares import WIDE, Caps

# Descriptors that are not for clients: the store, hosts, the node, logs, libraries, and one to accept with.
_RESERVE: Final = 256
# An address that was quiet may ask for this many seconds' worth at once, as a page or an SDK does when it starts.
_BURST_S: Final = 10
# All strangers together may ask for this much more than one address.
_STRANGERS: Final = 6
# Event streams cost a ping each, and most people watch one job.
_STREAMS_OF_ALL: Final = 2_048


class Rate(NamedTuple):
    """Requests a second, and the most at once."""

    per_s: float
    burst: float

    def times(self, factor: float) -> Rate:
        """Return a rate that is this many times higher."""
        return Rate(self.per_s * factor, self.burst * factor)


class Limits(NamedTuple):
    """The limits of one front. Rates are None while the operator has switched them off, as for load tests."""

    connections: Caps
    streams: Caps
    near: Rate | None
    wide: Rate | None
    strangers: Rate | None


def limits_of(settings: Settings) -> Limits:
    """Return the limits that the settings ask for, as far as this process has descriptors for them."""
    most = min(settings.connections_max, max(_descriptors() - _RESERVE, 16))
    if not settings.rate_limits:
        return Limits(Caps(most, most, most), Caps(most, most, most), None, None, None)
    near = Rate(settings.requests_per_ip, settings.requests_per_ip * _BURST_S)
    return Limits(
        connections=Caps.of(settings.connections_per_ip, most),
        streams=Caps.of(settings.streams_per_ip, min(most, _STREAMS_OF_ALL)),
        near=near,
        wide=near.times(WIDE),
        strangers=near.times(_STRANGERS),
    )


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if soft == resource.RLIM_INFINITY else soft
