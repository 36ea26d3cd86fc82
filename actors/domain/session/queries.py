"""Queries that change nothing: a count of tokens, a look-up of an invoice at the node, and the state of an invoice."""

from __future__ import annotations

from ..behaviour import Decision, Done, Failed
from ..credentials.caveats import Action
from ..errors import model_failed, not_found
from ..llm.intents import CountPrompt
from ..llm.relays import RelayEnd
from ..payments.intents import LookUpInvoice
from ..payments.invoices import InvoicePurpose, InvoiceState, ShowInvoice, ShownInvoice
from ..provider_faults import ModelFault
from .messages import CheckPayment, Counted, CountTokens
from .requests import not_spendable
from .state import Session, SessionState

LOOK_UP = "look_up:"


def look_up(payment_hash: str) -> LookUpInvoice:
    """Return the intent to ask the node about an invoice; its key allows one look-up of an invoice at a time."""
    return LookUpInvoice(LOOK_UP + payment_hash, payment_hash)


def check_payment(session: Session, command: CheckPayment) -> Decision | None:
    """Have the node asked about the invoice, without waiting for the treasury; None unless the session awaits it.

    The caller waits, and gets the session's view.
    """
    payment_hash = command.payment_hash
    if payment_hash not in session.invoices:
        # A deposit whose invoice has lapsed can still be paid.
        payment_hash = session.deposit_invoice.payment_hash
        if session.state is not SessionState.AWAITING_PAYMENT:
            return None
    intent = look_up(payment_hash)
    return Decision(wait_for=intent.key, intents=(intent,))


def count_tokens(session: Session, command: CountTokens, now_ms: int) -> Decision:
    """Have the provider count a prompt. It costs nothing, but only a session that can spend may have it done."""
    # A credential with the action `read` suffices, too.
    refusal = command.grant.refusal(Action.LLM, now_ms)
    if refusal is not None and command.grant.refusal(Action.READ, now_ms) is None:
        refusal = None
    refusal = refusal or not_spendable(session, now_ms)
    if refusal is not None:
        return Decision(reply=refusal)
    intent = CountPrompt(f"count:{command.request_id}", command.body, command.headers, command.model, command.beta)
    return Decision(wait_for=intent.key, intents=(intent,))


def counted(command: Done | Failed) -> Decision:
    """Answer the caller with the provider's count, or with its failure."""
    key = command.intent.key
    if isinstance(command, Failed):
        fault = None if command.permanent else command.fault or ModelFault.UNREACHABLE
        return Decision(answers={key: model_failed(fault, command.retry_after_ms)})
    end = command.result
    assert isinstance(end, RelayEnd)
    return Decision(answers={key: Counted(end.status, end.headers, end.body)})


def shown_invoice(session: Session, command: ShowInvoice) -> Decision:
    """Answer with what a stranger may see of one of the session's invoices."""
    known = (*session.invoices, *session.settled, *session.lapsed)
    payment_hash = next((known_hash for known_hash in known if known_hash.endswith(command.hash_end)), None)
    if payment_hash is None:
        return Decision(reply=not_found("invoice"))
    deposit = payment_hash == session.deposit_invoice.payment_hash
    purpose = InvoicePurpose.DEPOSIT if deposit else InvoicePurpose.TOP_UP
    if payment_hash in session.settled:
        return Decision(reply=ShownInvoice(InvoiceState.PAID, purpose))
    invoice = session.invoices.get(payment_hash)
    if invoice is None or session.ended:
        return Decision(reply=ShownInvoice(InvoiceState.EXPIRED, purpose))
    return Decision(reply=ShownInvoice(InvoiceState.OPEN, purpose, invoice))
