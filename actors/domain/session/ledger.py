"""The ledger of a session, derived from its journal: each event stands for some entries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from ..behaviour import Event
from ..money import Msat
from ..payments.payouts import LedgerEvent, PayoutPaid
from .messages import EntryKind, LedgerEntry
from .state import Deposited, HoldPlaced, HoldReleased, RequestFinished, SessionClosed, SessionExpired


class _Movement(NamedTuple):
    kind: EntryKind
    amount: Msat
    request_id: str | None = None
    payment_hash: str | None = None
    spender: str | None = None
    reserved: Msat | None = None

    @property
    def change(self) -> int:
        """Change of the balance, in msat."""
        match self.kind:
            case EntryKind.DEPOSIT | EntryKind.RELEASE:
                return self.amount.value
            case EntryKind.HOLD | EntryKind.REFUND:
                return -self.amount.value
            case EntryKind.DEBIT:
                return 0


def entry_count(event: Event) -> int:
    """Return the number of entries that the event stands for."""
    return len(_movements(event))


def entries(event: Event) -> Sequence[LedgerEntry]:
    """Return the event's entries, oldest first."""
    movements = _movements(event)
    if not movements or not isinstance(event, LedgerEvent):
        return ()
    before = event.balance_msat.value - sum(movement.change for movement in movements)
    balances = list(accumulate((movement.change for movement in movements), initial=before))[1:]
    first = event.seq - len(movements) + 1
    return [
        LedgerEntry(
            seq=first + i,
            at_ms=event.at_ms,
            kind=movement.kind,
            amount_msat=movement.amount,
            balance_msat=Msat(balance),
            request_id=movement.request_id,
            payment_hash=movement.payment_hash,
            spender=movement.spender,
            reserved_msat=movement.reserved,
        )
        for i, (movement, balance) in enumerate(zip(movements, balances, strict=True))
    ]


def _movements(event: Event) -> list[_Movement]:
    """Return the event's movements. Those of zero are left out, except debits: what is free is listed, too."""
    match event:
        case Deposited(payment_hash=payment_hash):
            found = [_Movement(EntryKind.DEPOSIT, event.amount_msat, payment_hash=payment_hash)]
            if event.refunded_msat:
                found.append(_Movement(EntryKind.REFUND, event.refunded_msat, payment_hash=payment_hash))
            return found
        case HoldPlaced(hold=hold):
            return [_Movement(EntryKind.HOLD, hold.amount_msat, hold.request_id, spender=hold.spender)]
        case HoldReleased():
            return _given_back(event)
        case RequestFinished():
            debit = _Movement(EntryKind.DEBIT, event.debit_msat, event.request_id, spender=event.spender)
            return [debit, *_given_back(event)]
        case SessionClosed() | SessionExpired() if event.refunded_msat:
            return [_Movement(EntryKind.REFUND, event.refunded_msat)]
        case PayoutPaid() if event.fee_msat or event.reserve_msat is not None:
            payment_hash, reserved = event.payment_hash, event.reserve_msat
            return [_Movement(EntryKind.DEBIT, event.fee_msat, payment_hash=payment_hash, reserved=reserved)]
    return []


def _given_back(event: HoldReleased | RequestFinished) -> list[_Movement]:
    found = []
    if event.released_msat:
        found.append(_Movement(EntryKind.RELEASE, event.released_msat, event.request_id, spender=event.spender))
    if event.refunded_msat:
        found.append(_Movement(EntryKind.REFUND, event.refunded_msat, event.request_id, spender=event.spender))
    return found
