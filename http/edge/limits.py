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
# All strangers together may ask for so many times as much as one address, but at once for no more: payers wait for it.
_STRANGERS: Final = 6
# New connections a second. Those that keep theirs open need few.
_ARRIVALS_S: Final = 25.0
_ALL_ARRIVALS_S: Final = 250.0
# Wrong credentials a second, each of which costs more than most requests.
_WRONG_S: Final = 2.0
_ALL_WRONG_S: Final = 40.0
# Bytes of bodies a second that are read only to be thrown away, so that their clients see the answer. An address has
# two of the largest at once. 16 MiB take 4 ms of the front.
_REST_BYTES_S: Final = 2.0 * 1_048_576
_ALL_REST_BYTES_S: Final = 16.0 * 1_048_576
_REST_BURST_S: Final = 32
# Event streams cost a ping each, and most people watch one job.
_STREAMS_OF_ALL: Final = 2_048


class Rate(NamedTuple):
    """Requests, connections or bytes a second, and the most at once."""

    per_s: float
    burst: float


class Rates(NamedTuple):
    """The rates of one address or /64, one /48, and all clients together."""

    near: Rate
    wide: Rate
    all: Rate

    @classmethod
    def of(cls, near: Rate, all_of_them: Rate) -> Rates:
        """Return the rates with that of a /48."""
        return cls(near, Rate(WIDE * near.per_s, WIDE * near.burst), all_of_them)


class Limits(NamedTuple):
    """The limits of one front. Rates are None while the operator has switched them off, as for load tests."""

    connections: Caps
    streams: Caps
    arrivals: Rates | None
    requests: Rates | None
    wrong: Rates | None
    rests: Rates | None


def limits_of(settings: Settings) -> Limits:
    """Return the limits that the settings ask for, as far as this process has descriptors for them."""
    most = min(settings.connections_max, max(_descriptors() - _RESERVE, 16))
    if not settings.rate_limits:
        return Limits(Caps(most, most, most), Caps(most, most, most), None, None, None, None)
    asked_s = float(settings.requests_per_ip)
    all_s = _STRANGERS * asked_s
    return Limits(
        connections=Caps.of(settings.connections_per_ip, most),
        streams=Caps.of(settings.streams_per_ip, min(most, _STREAMS_OF_ALL)),
        arrivals=Rates.of(
            Rate(_ARRIVALS_S, float(settings.connections_per_ip)), Rate(_ALL_ARRIVALS_S, 2 * _ALL_ARRIVALS_S)
        ),
        requests=Rates.of(Rate(asked_s, asked_s * _BURST_S), Rate(all_s, asked_s * _BURST_S)),
        wrong=Rates.of(Rate(_WRONG_S, _BURST_S * _WRONG_S), Rate(_ALL_WRONG_S, _ALL_WRONG_S)),
        rests=Rates.of(
            Rate(_REST_BYTES_S, _REST_BURST_S * _REST_BYTES_S),
            Rate(_ALL_REST_BYTES_S, _REST_BURST_S * _ALL_REST_BYTES_S),
        ),
    )


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if soft == resource.RLIM_INFINITY else soft
