"""Fair rates."""

from __future__ import annotations

from satmeter.http.edge.fair import FairRate
from satmeter.http.edge.limits import Rate, Rates
from satmeter.http.edge.networks import UNKNOWN, origin_of
from satmeter.http.edge.shares import Full


def uses(rate: FairRate, host: str, most: int = 1_000) -> int:
    origin = origin_of(host)
    for number in range(most):
        if rate.wait_s(origin, 0.0) is not None:
            return number
        rate.charge(origin, 0.0)
    return most


def test_who_asks_little_gets_through_while_others_use_up_what_all_have() -> None:
    rate = FairRate(Rates.of(Rate(1, 100), Rate(1, 50)))
    assert uses(rate, "192.0.2.1") == 50
    wait = rate.wait_s(origin_of("192.0.2.1"), 0.0)
    assert wait is not None and wait[1] is Full.ALL
    assert uses(rate, "192.0.2.2") == 11
    assert rate.wait_s(origin_of("192.0.2.3"), 0.0) is None


def test_even_the_reserve_has_an_end() -> None:
    rate = FairRate(Rates.of(Rate(1, 100), Rate(1, 50)))
    asked = sum(uses(rate, f"192.0.2.{number}") for number in range(100))
    assert asked <= 100


def test_an_address_waits_for_its_own() -> None:
    rate = FairRate(Rates.of(Rate(2, 3), Rate(1_000, 1_000)))
    assert uses(rate, "192.0.2.1") == 3
    assert rate.wait_s(origin_of("192.0.2.1"), 0.0) == (0.5, Full.OWN)


def test_clients_that_cannot_be_told_apart_are_bounded_in_all() -> None:
    rate = FairRate(Rates.of(Rate(1, 1), Rate(1, 5)))
    for _ in range(5):
        assert rate.wait_s(UNKNOWN, 0.0) is None
        rate.charge(UNKNOWN, 0.0)
    assert rate.wait_s(UNKNOWN, 0.0) is not None


def test_nothing_is_kept_of_clients_that_have_been_quiet() -> None:
    rate = FairRate(Rates.of(Rate(1, 10), Rate(100, 100)))
    rate.tidy(0.0)
    for number in range(9):
        rate.charge(origin_of(f"192.0.2.{number}"), 0.0)
    rate.charge(origin_of("2001:db8::1"), 0.0, 10)
    rate.tidy(5.0)
    assert rate.kept == 11, "it is tidied only now and again"
    rate.tidy(10.5)
    assert rate.kept == 0


def test_a_client_that_asked_much_is_kept_until_it_may_ask_as_much_again() -> None:
    rate = FairRate(Rates.of(Rate(1, 100), Rate(1_000, 1_000)))
    rate.charge(origin_of("192.0.2.1"), 0.0, 100)
    rate.tidy(50.0)
    assert rate.kept == 1
    wait = rate.wait_s(origin_of("192.0.2.1"), 0.5)
    assert wait is not None and wait[1] is Full.OWN
    rate.tidy(100.5)
    assert rate.kept == 0
