"""Invoices of a session as a stranger may see them."""

from __future__ import annotations

from satmeter.actors.domain.behaviour import Wake
from satmeter.actors.domain.errors import Code, Refusal
from satmeter.actors.domain.payments.invoices import Invoice, InvoicePurpose, InvoiceState, ShowInvoice, ShownInvoice
from satmeter.actors.domain.session.payments import EXPIRY_GRACE_MS
from tests.helpers.jobs import invoice
from tests.helpers.sessions import DEPOSIT, SessionBench, close

TOP_UP = invoice(2, 500)


def shown(bench: SessionBench, of: Invoice) -> ShownInvoice | Refusal:
    reply = bench.send(ShowInvoice(of.payment_hash[-20:])).reply
    assert isinstance(reply, ShownInvoice | Refusal)
    return reply


def test_a_deposit_is_open_then_paid() -> None:
    bench = SessionBench()
    bench.open()
    assert shown(bench, DEPOSIT) == ShownInvoice(InvoiceState.OPEN, InvoicePurpose.DEPOSIT, DEPOSIT)
    bench.pay()
    assert shown(bench, DEPOSIT) == ShownInvoice(InvoiceState.PAID, InvoicePurpose.DEPOSIT)


def test_a_top_up_is_open_then_paid() -> None:
    bench = SessionBench()
    bench.fund()
    bench.top_up_with(TOP_UP)
    assert shown(bench, TOP_UP) == ShownInvoice(InvoiceState.OPEN, InvoicePurpose.TOP_UP, TOP_UP)
    bench.pay(TOP_UP)
    assert shown(bench, TOP_UP) == ShownInvoice(InvoiceState.PAID, InvoicePurpose.TOP_UP)


def test_an_invoice_that_has_lapsed_is_over() -> None:
    bench = SessionBench()
    bench.open()
    bench.now_ms = DEPOSIT.expires_at_ms + EXPIRY_GRACE_MS
    bench.send(Wake())
    bench.finish(f"look_up:{DEPOSIT.payment_hash}", None)
    assert shown(bench, DEPOSIT) == ShownInvoice(InvoiceState.EXPIRED, InvoicePurpose.DEPOSIT)


def test_an_invoice_of_a_session_that_was_closed_is_not_to_be_paid() -> None:
    bench = SessionBench()
    bench.fund()
    bench.top_up_with(TOP_UP)
    bench.send(close())
    assert shown(bench, TOP_UP) == ShownInvoice(InvoiceState.EXPIRED, InvoicePurpose.TOP_UP)


def test_an_invoice_of_another_is_not_found() -> None:
    bench = SessionBench()
    bench.open()
    reply = shown(bench, TOP_UP)
    assert isinstance(reply, Refusal) and reply.code is Code.NOT_FOUND
