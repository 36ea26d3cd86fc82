"""Order in which connections that have not paid give way."""

from __future__ import annotations

from satmeter.http.edge.networks import UNKNOWN, origin_of
from satmeter.http.edge.shares import ALL
from satmeter.http.edge.unpaid import Unpaid

ONE, OTHER = origin_of("192.0.2.1"), origin_of("192.0.2.2")


def test_the_one_that_rests_longest_gives_way_first() -> None:
    unpaid: Unpaid[str] = Unpaid()
    for name in "abc":
        unpaid.rest(name, ONE)
    unpaid.work("a", ONE)
    assert unpaid.first(ONE.near) == "b"
    unpaid.rest("a", ONE)
    unpaid.take_out("b", ONE)
    assert unpaid.first(ONE.near) == "c"


def test_one_with_a_request_under_way_gives_way_when_none_rests() -> None:
    unpaid: Unpaid[str] = Unpaid()
    unpaid.work("a", ONE)
    unpaid.work("b", ONE)
    unpaid.rest("c", ONE)
    assert unpaid.first(ONE.near) == "c"
    unpaid.take_out("c", ONE)
    assert unpaid.first(ONE.near) == "a"


def test_another_request_of_one_connection_does_not_change_its_place() -> None:
    unpaid: Unpaid[str] = Unpaid()
    for name in "aba":
        unpaid.work(name, ONE)
    assert unpaid.first(ALL) == "a"


def test_addresses_networks_and_all_have_lines_of_their_own() -> None:
    unpaid: Unpaid[str] = Unpaid()
    near, sibling = origin_of("2001:db8:1:1::1"), origin_of("2001:db8:1:2::1")
    unpaid.rest("unknown", UNKNOWN)
    unpaid.rest("other", OTHER)
    unpaid.rest("sibling", sibling)
    unpaid.rest("near", near)
    assert [unpaid.first(key) for key in (near.near, near.wide, ALL)] == ["near", "sibling", "unknown"]
    assert unpaid.first(ONE.near) is None


def test_nothing_is_kept_of_those_that_were_taken_out() -> None:
    unpaid: Unpaid[str] = Unpaid()
    origin = origin_of("2001:db8::1")
    unpaid.rest("a", origin)
    unpaid.work("a", origin)
    unpaid.take_out("a", origin)
    unpaid.take_out("a", origin)
    assert unpaid.first(ALL) is None
    assert not unpaid._resting._lines and not unpaid._busy._lines
