"""Receipts of a session's requests, made from its journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..behaviour import Decision, Event, History
from ..errors import Code, Refusal, not_found, not_yet
from ..pricing import Tariff
from ..receipts import GetRequestReceipt, Receipt, digests_of, needle
from .ledger import entries
from .state import Hold, HoldPlaced, RequestFinished, Session

# The charge and the hold before it: even after an earlier hold was released, no event comes between these two.
_EVENTS: Final = 2


def receipt(session_id: str, session: Session, command: GetRequestReceipt) -> Decision:
    """Have the journal searched for the request, unless it is under way."""
    if any(hold.request_id == command.request_id for hold in session.holds.values()):
        return Decision(reply=not_yet("pending", "The request is under way: its receipt is there when it has ended."))
    return Decision(history=History(0, _EVENTS, needle(command.request_id), (session_id, session.tariffs)))


def told(events: Sequence[Event], session_id: str, tariffs: Sequence[Tariff]) -> Receipt | Refusal:
    """Return the receipt, given the newest events of the request, the newest first."""
    if not events:
        return not_found("request of this session")
    match events[0], events[-1]:
        case RequestFinished() as finished, HoldPlaced(hold=hold) if finished.receipt is not None:
            return _receipt(session_id, tariffs[finished.receipt.tariff], hold, finished)
        case RequestFinished(), _:
            return Refusal(Code.NOT_FOUND, "This request was charged before receipts were kept: see the ledger.")
    return Refusal(Code.NOT_FOUND, "Nothing was charged for this request, so there is no receipt.")


def _receipt(session_id: str, tariff: Tariff, hold: Hold, finished: RequestFinished) -> Receipt:
    assert finished.receipt is not None
    request_digest, answer_digest = digests_of(finished.receipt)
    debit = entries(finished)[0]
    return Receipt(
        session_id=session_id,
        request_id=finished.request_id,
        spender=finished.spender,
        state=finished.ending.value,
        at_ms=finished.at_ms,
        request_digest=request_digest,
        answer_digest=answer_digest,
        tariff=tariff,
        btc_price=hold.btc_price,
        evaluation_usage=finished.evaluation_usage,
        work_usage=finished.work_usage,
        cost_usd=finished.cost_usd,
        charged_msat=finished.debit_msat,
        limit_msat=hold.amount_msat,
        ledger_seq=debit.seq,
        evaluation_reported=finished.receipt.evaluation_reported,
        work_reported=finished.receipt.work_reported,
    )
