"""Money: integer millisatoshis, and the only place where a price in dollars is rounded to them."""

from __future__ import annotations

from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from functools import total_ordering
from typing import Final, final

MSAT_PER_SAT: Final = 1_000
MSAT_PER_BTC: Final = 100_000_000_000
# More bitcoin than will ever exist: an amount above it is a mistake, never a payment.
MSAT_MAX: Final = 21_000_000 * MSAT_PER_BTC

EXACT: Final = Context(prec=100, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
"""Decimal arithmetic that never rounds: a result of more than 100 digits raises `decimal.Inexact`.

Python's default context silently rounds to 28 digits, half to even: a cost could become less than it was. All sums and
products of dollars are done by the methods of this one (making it the current context costs ten times what a sum
costs); rates are held to a length that always fits (`actors/catalogue/prices.py`).
"""


class MoneyError(ArithmeticError):
    """Error for an amount that is negative, exceeds all bitcoin, or is not a whole number of millisatoshis."""


@final
@total_ordering
class Msat:
    """A non-negative, whole number of millisatoshis (1 sat = 1,000 msat).

    It adds, subtracts and compares only with itself, so that a bare number of another unit can't slip in.
    A result below zero raises `MoneyError`: no balance in this system may be negative, not even for a moment.
    """

    __slots__ = ("value",)
    value: int

    def __init__(self, value: int) -> None:
        if type(value) is not int or not 0 <= value <= MSAT_MAX:
            raise MoneyError(f"not an amount in msat: {value!r}")
        object.__setattr__(self, "value", value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Msat is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Msat is immutable")

    def __reduce__(self) -> tuple[type[Msat], tuple[int]]:
        return Msat, (self.value,)

    @classmethod
    def from_sats(cls, sats: int) -> Msat:
        """Convert whole satoshis to millisatoshis. Raises `MoneyError`."""
        if type(sats) is not int:
            raise MoneyError(f"not a whole number of sats: {sats!r}")
        return cls(sats * MSAT_PER_SAT)

    @property
    def whole_sats(self) -> int:
        """The amount in whole satoshis, rounded down: the largest invoice that it covers."""
        return self.value // MSAT_PER_SAT

    def __add__(self, other: Msat) -> Msat:
        return Msat(self.value + other.value) if isinstance(other, Msat) else NotImplemented

    def __sub__(self, other: Msat) -> Msat:
        return Msat(self.value - other.value) if isinstance(other, Msat) else NotImplemented

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Msat) else NotImplemented

    def __lt__(self, other: Msat) -> bool:
        return self.value < other.value if isinstance(other, Msat) else NotImplemented

    def __hash__(self) -> int:
        return hash((Msat, self.value))

    def __bool__(self) -> bool:
        return self.value > 0

    def __repr__(self) -> str:
        return f"Msat({self.value})"


ZERO: Final = Msat(0)


def total(amounts: list[Msat]) -> Msat:
    """Return the sum of the amounts."""
    return Msat(sum(amount.value for amount in amounts))


def usd_to_msat(price_usd: Decimal, btc_price_usd: Decimal) -> Msat:
    """Convert a price in dollars to millisatoshis, rounded up: the only rounding between a cost and a charge.

    Raises `MoneyError` when the price is negative or the exchange rate is not a positive number.
    """
    return Msat(_ceil_units(price_usd, btc_price_usd, MSAT_PER_BTC))


def ceil_msat(price_usd: Decimal, btc_price_usd: Decimal) -> int:
    """Convert as `usd_to_msat` does, to a number that may exceed all bitcoin: a figure, never an amount to be paid."""
    return _ceil_units(price_usd, btc_price_usd, MSAT_PER_BTC)


def usd_to_sats(price_usd: Decimal, btc_price_usd: Decimal) -> int:
    """Convert a price in dollars to whole satoshis, rounded up and at least 1: the amount of an invoice.

    Raises `MoneyError` as `usd_to_msat` does.
    """
    return max(1, _ceil_units(price_usd, btc_price_usd, MSAT_PER_BTC // MSAT_PER_SAT))


def _ceil_units(price_usd: Decimal, btc_price_usd: Decimal, units_per_btc: int) -> int:
    if not (price_usd.is_finite() and btc_price_usd.is_finite()) or price_usd < 0 or btc_price_usd <= 0:
        raise MoneyError("a price must not be negative and an exchange rate must be positive")
    # The division is done in whole numbers: a rounded quotient could land on the wrong side of the next unit.
    price, rate = price_usd.as_integer_ratio(), btc_price_usd.as_integer_ratio()
    return -(-(price[0] * rate[1] * units_per_btc) // (price[1] * rate[0]))


def usd_text(amount_usd: Decimal) -> str:
    """Format dollars as the wire shows them: exact, in plain digits without an exponent, fit to compute with."""
    text = format(amount_usd.normalize(EXACT), "f")
    return text if "." in text else f"{text}.00"
