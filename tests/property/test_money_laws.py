"""Laws of money, for all amounts and not only for those that somebody thought of."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.money import (
    MSAT_MAX,
    MSAT_PER_BTC,
    ZERO,
    MoneyError,
    Msat,
    total,
    usd_text,
    usd_to_msat,
    usd_to_sats,
)

values = st.integers(0, MSAT_MAX // 4)
amounts = values.map(Msat)
btc_prices = st.decimals(Decimal("0.01"), Decimal(10_000_000), allow_nan=False, allow_infinity=False)
usd_prices = st.decimals(0, 1_000, allow_nan=False, allow_infinity=False, places=15)


@given(values, values)
def test_amounts_add_and_subtract_as_their_numbers_do(left: int, right: int) -> None:
    assert Msat(left) + Msat(right) == Msat(left + right)
    assert Msat(left) + Msat(right) - Msat(right) == Msat(left)
    if left < right:
        with pytest.raises(MoneyError):
            Msat(left) - Msat(right)


@given(amounts, amounts, amounts)
def test_addition_is_associative_and_commutative_with_zero(a: Msat, b: Msat, c: Msat) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + ZERO == a - ZERO == a
    assert total([a, b, c]) == a + b + c


@given(values, values)
def test_amounts_are_ordered_and_hashed_as_their_numbers(left: int, right: int) -> None:
    assert (Msat(left) < Msat(right)) == (left < right)
    assert (Msat(left) >= Msat(right)) == (left >= right)
    assert (Msat(left) == Msat(right)) == (left == right)
    assert len({Msat(left), Msat(right)}) == len({left, right})
    assert bool(Msat(left)) == bool(left)


@given(values)
def test_whole_sats_never_exceed_the_amount_and_lack_less_than_one(value: int) -> None:
    amount = Msat(value)
    assert Msat.from_sats(amount.whole_sats) <= amount
    assert value - amount.whole_sats * 1_000 < 1_000


@given(amounts)
def test_an_amount_survives_being_sent_and_copied(amount: Msat) -> None:
    assert pickle.loads(pickle.dumps(amount)) == copy.deepcopy(amount) == amount


@given(
    st.one_of(
        st.integers(max_value=-1),
        st.integers(min_value=MSAT_MAX + 1),
        st.booleans(),
        st.floats(),
        st.decimals(),
        st.text(),
        st.none(),
    )
)
def test_nothing_but_a_whole_number_in_range_becomes_an_amount(value: object) -> None:
    with pytest.raises(MoneyError):
        Msat(value)  # type: ignore[arg-type]


@given(amounts, st.one_of(st.integers(), st.floats(), st.decimals(allow_nan=False)))
def test_a_bare_number_never_mixes_with_an_amount(amount: Msat, number: object) -> None:
    assert amount != number
    for operation in (
        lambda: amount + number,  # type: ignore[operator]
        lambda: amount - number,  # type: ignore[operator]
        lambda: amount < number,  # type: ignore[operator]
        lambda: number + amount,  # type: ignore[operator]
    ):
        with pytest.raises(TypeError):
            operation()


@given(amounts)
def test_an_amount_never_changes(amount: Msat) -> None:
    with pytest.raises(AttributeError):
        amount.value = 0
    with pytest.raises(AttributeError):
        del amount.value


def _exact_msat(price_usd: Decimal, btc_usd: Decimal) -> Fraction:
    return Fraction(price_usd) * MSAT_PER_BTC / Fraction(btc_usd)


@given(usd_prices, btc_prices)
def test_msat_are_never_worth_less_than_the_price_and_less_than_one_msat_more(
    price_usd: Decimal, btc_usd: Decimal
) -> None:
    excess = usd_to_msat(price_usd, btc_usd).value - _exact_msat(price_usd, btc_usd)
    assert 0 <= excess < 1


@given(usd_prices, btc_prices)
def test_sats_are_rounded_from_the_price_itself_and_not_from_rounded_msat(price_usd: Decimal, btc_usd: Decimal) -> None:
    exact_sats = _exact_msat(price_usd, btc_usd) / 1_000
    sats = usd_to_sats(price_usd, btc_usd)
    assert sats == max(1, -(-exact_sats.numerator // exact_sats.denominator))
    assert Msat.from_sats(sats) >= usd_to_msat(price_usd, btc_usd)


@given(usd_prices, usd_prices, btc_prices)
def test_a_higher_price_never_costs_fewer_msat(one: Decimal, other: Decimal, btc_usd: Decimal) -> None:
    low, high = sorted([one, other])
    assert usd_to_msat(low, btc_usd) <= usd_to_msat(high, btc_usd)


@given(st.decimals(0, 10**9, allow_nan=False, allow_infinity=False))
def test_shown_dollars_are_the_dollars(amount_usd: Decimal) -> None:
    text = usd_text(amount_usd)
    assert Decimal(text) == amount_usd
    assert set(text) <= set("0123456789.-") and "." in text
