"""What a session asks outside for its holder, and that changes nothing: a count of tokens, and the node's word."""

from __future__ import annotations

from ..behaviour import Decision, Done, Failed
from ..credentials.caveats import Action
from ..errors import model_failed
from ..intents import CountPrompt, LookUpInvoice
from ..llm.provider_faults import ModelFault
from ..llm.relays import RelayEnd
from .messages import Counted, CountTokens
from .requests import not_spendable
from .state import Session, SessionState

LOOK_UP = "look_up:"


def look_up(payment_hash: str) -> LookUpInvoice:
    """Asks the node about an invoice; once at a time for each."""
    return LookUpInvoice(LOOK_UP + payment_hash, payment_hash)


def check_payment(session: Session) -> Decision | None:
    """Has the node asked whether the deposit was paid, without waiting for the treasury; None where nothing awaits it.

    Who waits gets the session's view.
    """
    if session.state is not SessionState.AWAITING_PAYMENT:
        return None
    intent = look_up(session.deposit_invoice.payment_hash)
    return Decision(wait_for=intent.key, intents=(intent,))


def count_tokens(session: Session, command: CountTokens, now_ms: int) -> Decision:
    """Has a prompt counted by the provider. It costs nothing, but only a session that can spend may have it done."""
    # A credential to read with does as well.
    refusal = command.grant.refusal(Action.LLM, now_ms)
    if refusal is not None and command.grant.refusal(Action.READ, now_ms) is None:
        refusal = None
    refusal = refusal or not_spendable(session, now_ms)
    if refusal is not None:
        return Decision(reply=refusal)
    intent = CountPrompt(f"count:{command.request_id}", command.body, command.headers, command.beta)
    return Decision(wait_for=intent.key, intents=(intent,))


def counted(command: Done | Failed) -> Decision:
    """The provider has counted, or could not."""
    key = command.intent.key
    if isinstance(command, Failed):
        fault = None if command.permanent else command.fault or ModelFault.UNREACHABLE
        return Decision(answers={key: model_failed(fault, command.retry_after_ms)})
    end = command.result
    assert isinstance(end, RelayEnd)
    return Decision(answers={key: Counted(end.status, end.headers, end.body)})
