"""JSON models of a session's replies."""

from __future__ import annotations

from ...actors.domain.payments.invoices import Invoice
from ...actors.domain.session import messages
from ...actors.domain.session.messages import SessionCreated, SessionView
from ...actors.domain.session.state import SessionState
from ...actors.domain.timestamps import timestamp
from ..payments.pay_pages import PayPages
from ..payments.schemas import WebhookMade, WithdrawLink
from ..payments.views import refund
from . import schemas


def session_opened(
    created: SessionCreated, macaroon: str, pages: PayPages, webhook: WebhookMade | None, *, of_previous_key: bool
) -> schemas.SessionOpened:
    """Return the answer to the client that opened the session. A repeated request gets the same, whatever its state."""
    return schemas.SessionOpened(
        session_id=created.session_id,
        state=SessionState.AWAITING_PAYMENT,
        macaroon=macaroon,
        deposit_invoice=pages.view(created.session_id, created.deposit_invoice, of_previous_key=of_previous_key),
        expires_at=timestamp(created.expires_at_ms),
        webhook=webhook,
    )


def session_status(view: SessionView, pages: PayPages, withdraw: WithdrawLink | None = None) -> schemas.SessionStatus:
    """Return the session's status for its holder."""
    return schemas.SessionStatus(
        session_id=view.session_id,
        state=view.state,
        balance_msat=view.balance_msat.value,
        balance_sats=view.balance_msat.whole_sats,
        held_msat=view.held_msat.value,
        deposited_msat=view.deposited_msat.value,
        spent_msat=view.spent_msat.value,
        refund=refund(view.refund, withdraw),
        expires_at=timestamp(view.expires_at_ms),
        pending_invoices=[pages.view(view.session_id, pending) for pending in view.pending_invoices],
    )


def top_up(session_id: str, ordered: Invoice, pages: PayPages) -> schemas.TopUpOpened:
    """Return the invoice of a top-up."""
    return schemas.TopUpOpened(top_up_invoice=pages.view(session_id, ordered))


def ledger(page: messages.LedgerPage) -> schemas.Ledger:
    """Return a page of the ledger."""
    return schemas.Ledger(entries=[_entry(entry) for entry in page.entries])


def _entry(entry: messages.LedgerEntry) -> schemas.LedgerEntry:
    reserved = entry.reserved_msat
    return schemas.LedgerEntry(
        seq=entry.seq,
        at=timestamp(entry.at_ms),
        kind=entry.kind,
        amount_msat=entry.amount_msat.value,
        balance_msat=entry.balance_msat.value,
        request_id=entry.request_id,
        payment_hash=entry.payment_hash,
        spender=entry.spender,
        reserved_msat=None if reserved is None else reserved.value,
        returned_msat=None if reserved is None else (reserved - entry.amount_msat).value,
    )
