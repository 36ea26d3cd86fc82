"""Comparison of payments that left the wallet in an actor's name with that actor's journal.

A payment of the operator's own carries no actor's name and counts nowhere. A payment that no journal records is lost to
the operator. Its cause is a node that called a payment failed and made it, a store that lost its last moment, or
another deployment that pays from the same wallet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final

import msgspec
import structlog

from ..domain.behaviour import BooksError, UnknownEventError
from ..domain.money import MoneyError
from ..domain.payments.payouts import Refunds, SentPayment
from ..ports import Lightning

PAGE: Final = 100
_PAGES_MAX: Final = 5
_DEEP_PAGES_MAX: Final = 50
# After this many looks older payments are read again, too.
_DEEP_EVERY: Final = 60
_REMEMBERED_MAX: Final = 20_000
# An actor that is done may be archived three days after its last event. For older payments its absence says nothing.
ARCHIVED_AFTER_MS: Final = 2 * 86_400_000
# Older payments are shown by `satmeter audit` alone, which the operator reads when this watch has logged one.
FORGOTTEN_AFTER_MS: Final = 7 * 86_400_000
_log = structlog.get_logger(__name__)

RefundsOf = Callable[[str], Awaitable[Refunds | None]]
"""Reads an actor's payouts from its journal; None for one that does not exist. Raises `PortError`, `BooksError`."""


class Comparison(msgspec.Struct, frozen=True):
    """Result of the last look. `since_ms`: the time of the oldest payment that it looked at."""

    unknown_count: int
    unknown_msat: int
    compared_count: int
    since_ms: int | None


class _Word(Enum):
    """Statement of a journal on a payment."""

    PAID = "paid"
    UNDER_WAY = "under way"
    UNKNOWN = "unknown"


class PayoutWatch:
    """Watch over the newest payments, and over those that it did not find in a journal before."""

    def __init__(self, lightning: Lightning, refunds_of: RefundsOf, now_ms: Callable[[], int]) -> None:
        self._lightning = lightning
        self._refunds_of = refunds_of
        self._now_ms = now_ms
        self._known: dict[str, SentPayment] = {}
        self._paid_by: dict[tuple[str, str], str] = {}
        self._unknown: dict[str, SentPayment] = {}
        self._told: set[str] = set()
        self._looks = 0

    async def look(self) -> Comparison:
        """Compare once, in a bounded number of pages. Raises `PortError`."""
        deep = self._looks % _DEEP_EVERY == 0
        unknown = dict(self._unknown)
        for number in range(_DEEP_PAGES_MAX if deep else _PAGES_MAX):
            page = await self._lightning.sent(PAGE, number * PAGE)
            news = [payment for payment in page if payment.row_id not in self._known]
            unknown |= {payment.row_id: payment for payment in news}
            if len(page) < PAGE or not (news or deep) or self._too_old(page[-1]):
                break
        self._unknown = {row_id: payment for row_id, payment in unknown.items() if await self._amiss(payment)}
        self._looks += 1
        self._forget()
        found = self._unknown.values()
        compared = [payment for payment in (*self._known.values(), *found) if payment.actor_id]
        times = [payment.at_ms for payment in compared if payment.at_ms]
        return Comparison(
            len(found),
            sum(payment.amount_msat.value + payment.fee_msat.value for payment in found),
            len(compared),
            min(times, default=None),
        )

    async def _amiss(self, payment: SentPayment) -> bool:
        """Return whether no journal knows the payment, which is then logged once and looked at again."""
        if self._too_old(payment):
            return False
        if not payment.actor_id:
            self._known[payment.row_id] = payment
            return False
        try:
            word = await self._word(payment)
        except (BooksError, MoneyError, UnknownEventError) as error:
            # One journal that can't be read must not hide the payments of all others.
            _log.error("journal_unreadable", actor_id=payment.actor_id, error=str(error), hint="see `satmeter audit`")
            return True
        if word is _Word.PAID:
            self._known[payment.row_id] = payment
        if word is not _Word.UNKNOWN:
            return False
        if payment.row_id not in self._told:
            self._told.add(payment.row_id)
            _log.error(
                "payment_unknown_to_journals",
                actor_id=payment.actor_id,
                payment_hash=payment.payment_hash,
                amount_msat=payment.amount_msat.value,
                fee_msat=payment.fee_msat.value,
                hint="the wallet paid what no journal says was paid: see `satmeter audit`",
            )
        return True

    async def _word(self, payment: SentPayment) -> _Word:
        refunds = await self._refunds_of(payment.actor_id)
        if refunds is None:
            # One that was told as unknown while it was young does not become known by its age.
            old = payment.at_ms and payment.at_ms < self._now_ms() - ARCHIVED_AFTER_MS
            gone = old and payment.row_id not in self._told
            return _Word.PAID if gone else _Word.UNKNOWN
        # A journal records one payment for each invoice. A second payment to the same invoice is unknown to it.
        paid = refunds.ended.get(payment.payment_hash) is True
        first = self._paid_by.setdefault((payment.actor_id, payment.payment_hash), payment.row_id)
        if paid and first == payment.row_id:
            return _Word.PAID
        under_way = refunds.under_way is not None and refunds.under_way.target.payment_hash == payment.payment_hash
        return _Word.UNDER_WAY if under_way and first == payment.row_id else _Word.UNKNOWN

    def _too_old(self, payment: SentPayment) -> bool:
        return bool(payment.at_ms) and payment.at_ms < self._now_ms() - FORGOTTEN_AFTER_MS

    def _forget(self) -> None:
        """Bound the memory: payments beyond the bound are only read again."""
        while len(self._known) > _REMEMBERED_MAX:
            payment = self._known.pop(next(iter(self._known)))
            self._paid_by.pop((payment.actor_id, payment.payment_hash), None)
        self._told &= self._unknown.keys()
