"""Schemas of sessions: every body that is taken or given under /sessions."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

from ...actors.domain.session.messages import EntryKind
from ...actors.domain.session.state import SessionState
from ..payments.schemas import CostLedger, PayoutSats, Refund, RefundTo, SessionWebhook, WebhookMade
from ..schema import (
    NOT_BLANK,
    NOT_NULL,
    REQUEST_CHARS_MAX,
    WHOLE,
    Absent,
    Count,
    Invoice,
    PaymentHash,
    PaymentRequest,
    Timestamp,
    Wire,
)

LEDGER_LIMIT = 100
LEDGER_LIMIT_MAX = 1_000
# Longer than any model's name.
_MODEL_CHARS_MAX = 200
# A count of tokens that fits every number type. Counts above a model's limit are lowered anyway.
_TOKENS_MAX = 1_000_000_000

SessionId = Annotated[str, Field(pattern="^ses_[A-Za-z0-9_-]{32}$", description="Opaque.")]
RequestId = Annotated[str, Field(pattern="^req_[A-Za-z0-9_-]+$", description="In the ledger, too.")]
Macaroon = Annotated[
    str,
    Field(description="The credential: its holder can spend from the session. Standard base64 of its V2 form."),
]


# What clients send


class Amount(Wire):
    """An amount to be deposited."""

    model_config = ConfigDict(extra="forbid", strict=True)

    amount_sats: int


def _sats_within(least: int, most: int) -> Any:
    """Return the type of a number with the operator's bounds, which the document and refusals name."""

    def within(value: int) -> int:
        if not least <= value <= most:
            raise PydanticCustomError("out_of_bounds", "Must be from {least} to {most}", {"least": least, "most": most})
        return value

    bounds = {"type": "integer", "minimum": least, "maximum": most, "description": "Whole sats."}
    return Annotated[int, AfterValidator(within), WHOLE, WithJsonSchema(bounds)]


@lru_cache(maxsize=8)
def amount_within(least: int, most: int) -> type[Amount]:
    """Return the model of a top-up's body, with the operator's bounds."""
    bounded = _sats_within(least, most)
    return create_model("Deposit", __base__=Amount, __doc__=Amount.__doc__, amount_sats=(bounded, ...))


class Opening(Amount):
    """A session to be opened."""

    webhook: Annotated[SessionWebhook | None, NOT_NULL] = None
    refund_to: Annotated[RefundTo | None, NOT_NULL] = None


@lru_cache(maxsize=8)
def opening_within(least: int, most: int) -> type[Opening]:
    """Return the model of the body that opens a session, with the operator's bounds on its deposit."""
    bounded = _sats_within(least, most)
    return create_model("NewSession", __base__=Opening, __doc__=Opening.__doc__, amount_sats=(bounded, ...))


class NewRequest(Wire):
    """A request, paid from the session's balance."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request: Annotated[
        str, Field(min_length=1, max_length=REQUEST_CHARS_MAX, pattern=NOT_BLANK, description="What is to be done.")
    ]
    max_tokens: Annotated[
        Annotated[int, Field(ge=1, le=_TOKENS_MAX), WHOLE] | None,
        NOT_NULL,
        Field(description="The longest answer; lowered to what the balance and the server allow."),
    ] = None
    model: Annotated[
        Annotated[str, Field(min_length=1, max_length=_MODEL_CHARS_MAX)] | None,
        NOT_NULL,
        Field(description="One of those in GET /pricing."),
    ] = None
    stream: Annotated[bool, Field(description="Whether to answer with events while the model writes.")] = False


class CloseOrder(Wire):
    """The invoice, address or code that the rest of a session is paid to. Without one it stays owed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    payment_request: Annotated[PaymentRequest | None, NOT_NULL] = None
    amount_sats: Annotated[PayoutSats | None, NOT_NULL] = None


class Nothing(Wire):
    """A body without fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


class LedgerQuery(Wire):
    """A stretch of the ledger."""

    after: Annotated[int, Field(ge=0, le=10**15)] = 0
    limit: Annotated[int, Field(ge=1, le=LEDGER_LIMIT_MAX)] = LEDGER_LIMIT


# What they get


class SessionOpened(Wire):
    """A new session, whose macaroon works as soon as the deposit has settled."""

    session_id: SessionId
    state: Literal[SessionState.AWAITING_PAYMENT]
    macaroon: Macaroon
    deposit_invoice: Invoice
    expires_at: Timestamp
    webhook: WebhookMade | Absent = None


class SessionStatus(Wire):
    """A session. `depositedMsat = balanceMsat + heldMsat + spentMsat + refund.owedMsat + refund.paidMsat`, always."""

    session_id: SessionId
    state: SessionState
    balance_msat: Annotated[int, Field(ge=0, description="What can still be spent.")]
    balance_sats: Annotated[int, Field(ge=0, description="The whole sats of it.")]
    held_msat: Annotated[int, Field(ge=0, description="Set aside for requests that are under way.")]
    deposited_msat: Count
    spent_msat: Count
    refund: Refund
    expires_at: Timestamp
    pending_invoices: list[Invoice]


class TopUpOpened(Wire):
    """A further invoice of the session."""

    top_up_invoice: Invoice


class RequestResult(Wire):
    """The end of a request: the answer, or why it was rejected, and what it cost."""

    request_id: RequestId
    state: Literal["complete", "rejected"]
    result: Annotated[str | Absent, Field(description="The answer.")] = None
    reason: Annotated[str | Absent, Field(description="Why the request was rejected.")] = None
    model: str
    max_tokens: Annotated[int, Field(ge=1, description="The longest answer that was paid for in advance.")]
    stop_reason: Annotated[
        str | Absent, Field(description="Why the answer ends where it does; `cancelled` if its client went away.")
    ] = None
    cost_ledger: CostLedger
    debited_msat: Count
    balance_msat: Annotated[int, Field(ge=0, description="The balance when the request ended.")]
    balance_sats: Count


class LedgerEntry(Wire):
    """One movement. Deposits and releases add to the balance, holds and refunds take from it.

    A debit takes from what is on hold. One without a request is the routing fee of a payout; it is of 0 where the
    route cost nothing.
    """

    seq: Annotated[int, Field(ge=1)]
    at: Timestamp
    kind: EntryKind
    amount_msat: Count
    balance_msat: Annotated[int, Field(ge=0, description="The balance after it.")]
    request_id: RequestId | Absent = None
    payment_hash: PaymentHash | Absent = None
    spender: Annotated[
        str | Absent,
        Field(description="The `name` caveats of the credential that spent it, or else the name that a header gave."),
    ] = None
    reserved_msat: Annotated[
        Count | Absent, Field(description="Of a payout's routing fee: what was set aside for it.")
    ] = None
    returned_msat: Annotated[
        Count | Absent, Field(description="Of a payout's routing fee: what came back of its reserve, and is owed.")
    ] = None


class Ledger(Wire):
    """A stretch of the ledger, oldest first."""

    entries: list[LedgerEntry]
