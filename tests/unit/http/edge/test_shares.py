"""Shares of what clients hold at once."""

from __future__ import annotations

from satmeter.http.edge.networks import UNKNOWN, origin_of
from satmeter.http.edge.shares import ALL, Caps, Full, Shares


def test_one_address_takes_its_share_and_no_more() -> None:
    shares = Shares(Caps(near=2, wide=8, all=100))
    one, other = origin_of("192.0.2.1"), origin_of("192.0.2.2")
    assert [shares.take(one) for _ in range(3)] == [None, None, Full.OWN]
    assert shares.take(other) is None
    shares.give_back(one)
    assert shares.take(one) is None


def test_the_64s_of_one_48_share() -> None:
    shares = Shares(Caps(near=2, wide=3, all=100))
    addresses = [origin_of(f"2001:db8:1:{number}::1") for number in range(4)]
    assert [shares.take(address) for address in addresses] == [None, None, None, Full.OWN]
    assert shares.take(origin_of("2001:db8:2::1")) is None


def test_all_together_have_an_end() -> None:
    shares = Shares(Caps(near=2, wide=2, all=3))
    assert [shares.take(origin_of(f"192.0.2.{number}")) for number in range(4)] == [None, None, None, Full.ALL]
    assert shares.total == 3


def test_clients_that_cannot_be_told_apart_are_not_counted_as_one() -> None:
    shares = Shares(Caps(near=1, wide=1, all=3))
    assert [shares.take(UNKNOWN) for _ in range(4)] == [None, None, None, Full.ALL]


def test_nothing_is_kept_of_clients_that_hold_nothing() -> None:
    shares = Shares(Caps(near=5, wide=5, all=5))
    origin = origin_of("2001:db8::1")
    shares.take(origin, 4)
    assert shares.take(origin, 2) is Full.OWN
    shares.give_back(origin, 4)
    assert (shares.total, shares._held) == (0, {})


def test_the_narrowest_share_that_is_full_is_told() -> None:
    shares = Shares(Caps(near=1, wide=2, all=3))
    one, sibling, third = (origin_of(f"2001:db8:1:{number}::1") for number in range(3))
    assert shares.full(one) is None
    shares.take(one)
    assert (shares.full(one), shares.full(sibling)) == (one.near, None)
    shares.take(sibling)
    assert shares.full(third) == third.wide
    shares.take(origin_of("192.0.2.1"))
    assert shares.full(origin_of("192.0.2.2")) == ALL
