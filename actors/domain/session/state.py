"""A session: its state and events."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from ..behaviour import BooksError, Once
from ..credentials.periods import Period
from ..llm.answers import Ending
from ..money import ZERO, Msat, total
from ..payments.invoices import Invoice
from ..payments.payouts import LedgerEvent, OwingBooks, PayoutEvent, Refunds
from ..payments.refund_flow import RefundEvent
from ..pricing import BtcPrice, Tariff, Usage
from ..receipts import ReceiptNote
from ..webhooks import Outbox, Webhook, WebhookTried


class SessionState(StrEnum):
    """The states of the contract. A payment activates a session; the last two are final."""

    AWAITING_PAYMENT = "awaiting_payment"
    ACTIVE = "active"
    CLOSED = "closed"
    EXPIRED = "expired"


ENDED_STATES = frozenset({SessionState.CLOSED, SessionState.EXPIRED})


class SessionBooks(OwingBooks, frozen=True):
    """Double entry of a session: deposited = balance + held + spent + owed + pending + refunded, at every event.

    balance: can be spent. held: set aside for requests under way. For the rest see `OwingBooks`.
    """

    deposited: Msat = ZERO
    balance: Msat = ZERO
    held: Msat = ZERO

    def __post_init__(self) -> None:
        parts = total([self.balance, self.held, self.spent, self.owed, self.pending, self.refunded])
        if parts != self.deposited:
            raise BooksError(f"session books do not close: deposited {self.deposited}, accounted for {parts}")

    @property
    def liability(self) -> Msat:
        """Amount that the wallet must hold, see `Behaviour.liability`."""
        return self.balance + self.held + self.owed

    def deposit(self, amount: Msat) -> SessionBooks:
        """Add a settled payment to the balance."""
        return replace(self, deposited=self.deposited + amount, balance=self.balance + amount)

    def hold(self, amount: Msat) -> SessionBooks:
        """Set a request's worst case aside. Raises `MoneyError` for more than the balance."""
        return replace(self, balance=self.balance - amount, held=self.held + amount)

    def post(self, held: Msat, debit: Msat) -> SessionBooks:
        """End a hold: spend `debit` of it, and return the rest to the balance. Raises `MoneyError` for more than it."""
        rest = held - debit
        return replace(self, held=self.held - held, spent=self.spent + debit, balance=self.balance + rest)

    def end(self) -> SessionBooks:
        """End the session: owe what could be spent."""
        return replace(self, balance=ZERO, owed=self.owed + self.balance)


class LimitOfHold(msgspec.Struct, frozen=True, omit_defaults=True):
    """A spend limit that a hold counts towards. `from_ms`: the begin of the window, if it renews each `period`."""

    limit_msat: Msat
    period: Period | None = None
    from_ms: int = 0

    @property
    def to_ms(self) -> int | None:
        """The end of the window, which is the time at which the limit renews; None if it never does."""
        return None if self.period is None else self.from_ms + self.period.length_ms


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """A window of time that a count belongs to, until `to_ms`. `above`: the limits that its limit is beneath."""

    from_ms: int
    to_ms: int
    above: tuple[str, ...] = ()


class Hold(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request under way. The amount covers `max_tokens`, and counts towards the spend limits in `counters`.

    nested: each of these limits lies beneath the one before it, and its count ends at zero. In journals of formats 1
    and 2 it is False: counts stayed for good, and limits that could not bind had counts too. limits: those of
    `counters`, in the same order; none in older journals, whose limits never renew.
    """

    once: Once
    request_id: str
    amount_msat: Msat
    model: str
    max_tokens: int
    btc_price: BtcPrice
    estimate: Usage
    at_ms: int
    counters: tuple[str, ...] = ()
    spender: str | None = None
    nested: bool = False
    limits: tuple[LimitOfHold, ...] = ()


class TopUpOrder(msgspec.Struct, frozen=True):
    """A top-up whose invoice is being made."""

    once: Once
    amount_sats: int


class Session(msgspec.Struct, frozen=True):
    """The state of a session. `client` is a digest that identifies its opener, for limits on unpaid invoices.

    invoices: those that wallets still pay. lapsed: hashes of expired invoices that were not paid so far. settled:
    hashes of paid invoices. counters: msat held or spent under each spend limit of a credential. beneath: the number
    of such limits beneath each limit. windows: those of counts whose limits renew. counted_ms: the latest time by which
    such limits were counted. tariffs: the prices that anything was charged by, in the order of their first use.
    opened_refund_to: the destination of refunds that its opening named.
    """

    client: str
    generation: int
    state: SessionState
    created_at_ms: int
    expires_at_ms: int
    deposit_invoice: Invoice
    first_expires_at_ms: int
    invoices: Mapping[str, Invoice]
    books: SessionBooks = SessionBooks()
    seq: int = 0
    lapsed: frozenset[str] = frozenset()
    settled: frozenset[str] = frozenset()
    top_ups: Mapping[str, TopUpOrder] = {}
    holds: Mapping[str, Hold] = {}
    counters: Mapping[str, Msat] = {}
    tariffs: tuple[Tariff, ...] = ()
    refunds: Refunds = Refunds()
    outbox: Outbox | None = None
    beneath: Mapping[str, int] = {}
    windows: Mapping[str, Window] = {}
    counted_ms: int = 0
    opened_refund_to: str | None = None

    @property
    def ended(self) -> bool:
        """True if the session is closed or expired, so that it takes no more requests."""
        return self.state in ENDED_STATES


# Events. Their tags are in journals for good: a changed meaning gets a new tag, and the old one stays readable.


class SessionOpened(LedgerEvent, frozen=True, kw_only=True, tag="session_opened"):
    """The deposit's invoice was made; from here on the session exists."""

    client: str
    generation: int
    deposit_invoice: Invoice
    expires_at_ms: int
    webhook: Webhook | None = None
    refund_to: str | None = None


class TopUpRequested(LedgerEvent, frozen=True, kw_only=True, tag="top_up_requested"):
    """A top-up was requested; its invoice is to be made."""

    once: Once
    amount_sats: int


class TopUpIssued(LedgerEvent, frozen=True, kw_only=True, tag="top_up_issued"):
    """The invoice of a top-up was made."""

    name: str
    invoice: Invoice


class TopUpFailed(LedgerEvent, frozen=True, kw_only=True, tag="top_up_failed"):
    """The invoice of a top-up could not be made."""

    name: str


class InvoiceLapsed(LedgerEvent, frozen=True, kw_only=True, tag="invoice_lapsed"):
    """The node says that an invoice was not paid in time. If it is paid after all, the payment still counts."""

    payment_hash: str


class Deposited(LedgerEvent, frozen=True, kw_only=True, tag="deposited"):
    """The node reported an invoice as settled. `expires_at_ms`: the session's, renewed unless it is over.

    `refunded_msat`: the same amount when the session is over, so that it is owed at once.
    """

    payment_hash: str
    amount_msat: Msat
    expires_at_ms: int
    refunded_msat: Msat = ZERO


class HoldPlaced(LedgerEvent, frozen=True, kw_only=True, tag="hold_placed"):
    """A request's worst case was set aside; from here on the model may be called."""

    hold: Hold


class HoldReleased(LedgerEvent, frozen=True, kw_only=True, tag="hold_released"):
    """A request ended without an answer: the model failed before it gave any, or the host died. Nothing is charged.

    `refunded_msat`: the same amount when the session is over, so that it is owed at once.
    """

    name: str
    request_id: str
    released_msat: Msat
    refunded_msat: Msat = ZERO
    spender: str | None = None


class RequestFinished(LedgerEvent, frozen=True, kw_only=True, tag="request_finished"):
    """A request ended: `debit_msat` of its hold is charged, the rest is released.

    `refunded_msat`: what was released, when the session is over, so that it is owed at once. The usages are None where
    that model was not asked, or nothing was counted. `receipt` is None in journals of format 1.
    """

    name: str
    request_id: str
    ending: Ending
    debit_msat: Msat
    released_msat: Msat
    refunded_msat: Msat = ZERO
    spender: str | None = None
    cost_usd: Decimal
    evaluation_usage: Usage | None = None
    work_usage: Usage | None = None
    receipt: ReceiptNote | None = None


class SessionClosed(LedgerEvent, frozen=True, kw_only=True, tag="session_closed"):
    """A holder closed the session; what could be spent is owed."""

    refunded_msat: Msat


class SessionExpired(LedgerEvent, frozen=True, kw_only=True, tag="session_expired"):
    """The session's time is over; what could be spent is owed."""

    refunded_msat: Msat


SessionEvent = (
    SessionOpened
    | TopUpRequested
    | TopUpIssued
    | TopUpFailed
    | InvoiceLapsed
    | Deposited
    | HoldPlaced
    | HoldReleased
    | RequestFinished
    | SessionClosed
    | SessionExpired
    | PayoutEvent
    | RefundEvent
    | WebhookTried
)
