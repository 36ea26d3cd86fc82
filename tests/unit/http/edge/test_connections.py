"""Connections of a front: which of them gives way when there is no room."""

from __future__ import annotations

import math

import pytest

from satmeter.http.edge import fair
from satmeter.http.edge.connections import Connections, Patience
from satmeter.http.edge.limits import Rate, Rates
from satmeter.http.edge.networks import UNKNOWN
from satmeter.http.edge.shares import Caps, Full
from tests.helpers.hosts import until

STRANGERS = "203.0.113.9"
PAYERS = "192.0.2.1"
IPV6 = [f"2001:db8:1:{number}::1" for number in range(9)]


class Connection:
    def __init__(self) -> None:
        self.due_s = math.inf
        self.origin = UNKNOWN
        self.has_paid = False
        self.ended = False

    def look(self, now_s: float) -> None:
        """Do nothing: it is never too slow."""

    def give_way(self) -> None:
        self.ended = True


class Front:
    """Connections that arrive at a front."""

    def __init__(self, near: int, wide: int, most: int) -> None:
        self.connections = Connections(Caps(near, wide, most))

    def arrive(self, host: str, *, paid: bool = False, busy: bool = False) -> Connection:
        connection = Connection()
        assert self.connections.arrive(connection, host) is None
        if busy:
            self.connections.work(connection)
        if paid:
            self.connections.welcome(connection)
        return connection

    def refused(self, host: str) -> Full | None:
        return self.connections.arrive(Connection(), host)


async def test_at_an_address_that_is_full_a_stranger_gives_way_to_one_that_has_paid_there() -> None:
    front = Front(3, 12, 100)
    payer = front.arrive(PAYERS, paid=True)
    strangers = [front.arrive(PAYERS) for _ in range(2)]
    front.arrive(PAYERS)
    assert [one.ended for one in (payer, *strangers)] == [False, True, False]
    assert front.connections.total == 3


async def test_where_nobody_has_paid_all_are_turned_away_as_before() -> None:
    front = Front(2, 8, 100)
    held = [front.arrive(STRANGERS) for _ in range(2)]
    assert front.refused(STRANGERS) is Full.OWN
    assert not any(one.ended for one in held)


async def test_in_a_network_that_is_full_the_place_of_another_address_is_taken() -> None:
    front = Front(4, 4, 100)
    front.connections.leave(front.arrive(IPV6[0], paid=True))
    strangers = [front.arrive(host) for host in IPV6[1:5]]
    assert front.refused(IPV6[5]) is Full.OWN
    front.arrive(IPV6[0])
    assert [one.ended for one in strangers] == [True, False, False, False]


async def test_at_a_front_that_is_full_the_place_of_any_stranger_is_taken() -> None:
    front = Front(10, 10, 3)
    payer = front.arrive(PAYERS, paid=True)
    strangers = [front.arrive(STRANGERS) for _ in range(2)]
    assert front.refused("203.0.113.10") is Full.ALL
    front.arrive(PAYERS)
    assert [one.ended for one in (payer, *strangers)] == [False, True, False]


async def test_one_with_a_request_gives_way_last_and_one_of_a_payer_never() -> None:
    front = Front(3, 12, 100)
    front.arrive(PAYERS, paid=True, busy=True)
    busy = front.arrive(PAYERS, busy=True)
    rests = front.arrive(PAYERS)
    front.arrive(PAYERS, paid=True)
    assert rests.ended and not busy.ended
    front.arrive(PAYERS, paid=True)
    assert busy.ended
    assert front.refused(PAYERS) is Full.OWN


async def test_one_whose_request_was_answered_rests_again() -> None:
    front = Front(3, 12, 100)
    front.arrive(PAYERS, paid=True)
    answered, busy = (front.arrive(PAYERS, busy=True) for _ in range(2))
    front.connections.rest(answered)
    front.arrive(PAYERS)
    assert answered.ended and not busy.ended


async def test_nothing_is_kept_of_one_that_has_ended() -> None:
    front = Front(3, 12, 100)
    ended = front.arrive(PAYERS)
    front.connections.leave(ended)
    front.connections.rest(ended)
    front.connections.work(ended)
    front.connections.leave(ended)
    assert front.connections.total == 0
    assert front.connections._unpaid.first(PAYERS) is None


@pytest.mark.parametrize("paid", [True, False])
async def test_thousands_of_payers_connections_and_strangers_leave_nothing_behind(paid: bool) -> None:
    front = Front(50, 200, 1_000)
    for number in range(3_000):
        front.connections.leave(front.arrive(f"192.0.2.{number % 250}", paid=paid, busy=bool(number % 2)))
    assert front.connections.total == 0
    assert not front.connections._shares._held


async def test_nothing_is_kept_of_clients_that_have_all_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair, "_TIDY_EVERY_S", 0.0)
    arrivals, rests = Rates.of(Rate(20, 1), Rate(1_000, 1_000)), Rates.of(Rate(9_000, 100), Rate(9_000, 9_000))
    connections = Connections(Caps(9, 9, 9), patience=Patience(look_s=0.01), arrivals=arrivals, rests=rests)
    connection = Connection()
    assert connections.arrive(connection, STRANGERS) is None
    assert connections.takes_rest(connection.origin, 99)
    connections.leave(connection)
    rates = connections._arrivals, connections._rests
    assert [rate.kept for rate in rates if rate is not None] == [1, 1]

    async def forgotten() -> bool:
        return connections._timer is None and not any(rate.kept for rate in rates if rate is not None)

    await until(forgotten)
