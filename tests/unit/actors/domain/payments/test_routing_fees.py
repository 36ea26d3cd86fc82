"""The rule for routing fees by itself: what is set aside, and the most that can be paid out beside it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.money import ZERO, Msat
from satmeter.actors.domain.payments.routing_fees import RoutingFees

LNBITS = RoutingFees(per_million=10_000, least_msat=Msat(2_000))
PHOENIXD = RoutingFees(base_msat=Msat(4_000), per_million=4_000)
FREE = RoutingFees()

rules = st.builds(
    RoutingFees,
    base_msat=st.integers(0, 50_000).map(Msat),
    per_million=st.one_of(st.integers(0, 2_000_000), st.sampled_from([1, 333, 10_000])),
    least_msat=st.integers(0, 50_000).map(Msat),
)
amounts = st.one_of(st.integers(0, 500_000), st.integers(0, 10**15)).map(Msat)


@pytest.mark.parametrize(
    ("sats", "reserve_msat"), [(1, 2_000), (200, 2_000), (201, 2_010), (1_000, 10_000), (12_345, 123_450)]
)
def test_the_larger_of_two_sats_and_one_percent(sats: int, reserve_msat: int) -> None:
    assert LNBITS.reserve(Msat.from_sats(sats)) == Msat(reserve_msat)


def test_a_base_and_a_part_are_added() -> None:
    assert PHOENIXD.reserve(Msat.from_sats(1_000)) == Msat(8_000)
    assert PHOENIXD.largest_payout(Msat(1_008_000)) == Msat.from_sats(1_000)
    assert PHOENIXD.largest_payout(Msat(1_007_999)) == Msat.from_sats(999)


def test_a_part_is_rounded_up() -> None:
    assert LNBITS.reserve(Msat(200_001)) == Msat(2_001)
    assert RoutingFees(per_million=1).reserve(Msat(1)) == Msat(1)


def test_without_a_fee_all_whole_sats_are_payable() -> None:
    assert FREE.reserve(Msat(12_345)) == ZERO
    assert FREE.largest_payout(Msat(12_345)) == Msat(12_000)


@given(rules, amounts)
def test_the_reserve_is_the_exact_sum_rounded_up(rule: RoutingFees, amount: Msat) -> None:
    reserve, base, part = rule.reserve(amount).value, rule.base_msat.value, amount.value * rule.per_million
    assert reserve >= rule.least_msat.value and (reserve - base) * 1_000_000 >= part
    assert reserve == rule.least_msat.value or (reserve - 1 - base) * 1_000_000 < part


@given(rules, amounts)
def test_the_largest_payout_fits_with_its_reserve_and_one_sat_more_does_not(rule: RoutingFees, owed: Msat) -> None:
    largest, sat = rule.largest_payout(owed), Msat.from_sats(1)
    assert largest.value % 1_000 == 0
    assert largest == ZERO or largest + rule.reserve(largest) <= owed
    assert largest + sat + rule.reserve(largest + sat) > owed


@given(rules, amounts)
def test_a_larger_invoice_never_needs_a_smaller_reserve(rule: RoutingFees, amount: Msat) -> None:
    assert rule.reserve(amount + Msat.from_sats(1)) >= rule.reserve(amount)


def test_a_fee_is_never_negative() -> None:
    with pytest.raises(ValueError):
        RoutingFees(per_million=-1)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (LNBITS, "2 sats or 1 %, whichever is more"),
        (PHOENIXD, "4 sats and 0.4 %"),
        (RoutingFees(Msat(1_000), 4_005, Msat(2_500)), "2.5 sats or 1 sat and 0.4005 %, whichever is more"),
        (RoutingFees(least_msat=Msat(1_010)), "1.01 sats"),
        (RoutingFees(per_million=110_000), "11 %"),
        (FREE, "nothing"),
    ],
)
def test_a_rule_is_told_in_words(rule: RoutingFees, words: str) -> None:
    assert rule.words == words
