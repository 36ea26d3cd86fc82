"""Commands to a session, and its replies."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Never

import msgspec

from ..behaviour import Attempt, Command, Once, Reply
from ..credentials.caveats import Grant
from ..errors import Refusal
from ..llm.answers import Ending, Held, TextDelta
from ..llm.relays import PromptRate, RelayBody, RelayBytes, RelayHead
from ..money import Msat
from ..payments.invoices import Invoice
from ..payments.payout_plan import PayoutPlan
from ..payments.payouts import PayoutTarget, RefundView
from ..pricing import BtcPrice, Usage
from ..webhooks import Webhook
from .state import SessionState

# Replies


class SessionCreated(Reply, frozen=True, tag="session_created"):
    """The new session as its 201 shows it; later changes of the session don't change what that shows.

    `unpaid`: the session waits for its first payment.
    """

    session_id: str
    generation: int
    deposit_invoice: Invoice
    expires_at_ms: int
    unpaid: bool = True


class SessionView(Reply, frozen=True, tag="session"):
    """A session as its client sees it."""

    session_id: str
    state: SessionState
    balance_msat: Msat
    held_msat: Msat
    deposited_msat: Msat
    spent_msat: Msat
    refund: RefundView
    expires_at_ms: int
    pending_invoices: tuple[Invoice, ...]


class TopUpInvoice(Reply, frozen=True, tag="top_up_invoice"):
    """The invoice of a top-up."""

    invoice: Invoice


class RequestCost(msgspec.Struct, frozen=True):
    """The actual cost of a request. `usage` is that of `model`, which is the evaluation's if no work was done.

    `cost_usd` is the sum of evaluation, work and infrastructure; `evaluation_cost_usd` is the evaluation's part.
    """

    model: str
    usage: Usage
    cost_usd: Decimal
    evaluation_cost_usd: Decimal
    held_msat: Msat
    debit_msat: Msat


class RequestAnswer(Reply, frozen=True, tag="request_answer"):
    """The end of a request: the answer or the reason of the rejection, and what it cost.

    `balance_msat` is the balance when it ended.
    """

    request_id: str
    ending: Ending
    text: str
    reason: str | None
    stop_reason: str | None
    model: str
    max_tokens: int
    cost: RequestCost
    balance_msat: Msat


class Relayed(Reply, frozen=True, tag="relayed"):
    """The end of a relayed call, and what it cost; `status` and `body` are the provider's.

    `body` is empty for a caller that got it piece by piece, and whole for one that asks again. A status from 400 on is
    the provider's refusal, for which nothing was charged. `told`: see `RelayOutcome`. `at_ms`: the time of the request.
    """

    request_id: str
    ending: Ending
    status: int
    headers: Mapping[str, str]
    body: bytes
    max_tokens: int
    cost: RequestCost
    balance_msat: Msat
    at_ms: int
    told: bool = False


class Counted(Reply, frozen=True, tag="counted"):
    """The provider's answer to a count of tokens, or its refusal: status, headers and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class EntryKind(StrEnum):
    """Kinds of ledger entries: deposits and releases add to the balance, holds and refunds take from it.

    A debit takes from what is held already; a debit without a request is the routing fee of a payout.
    """

    DEPOSIT = "deposit"
    HOLD = "hold"
    DEBIT = "debit"
    RELEASE = "release"
    REFUND = "refund"


class LedgerEntry(msgspec.Struct, frozen=True):
    """One movement; `balance_msat` is the balance after it. `reserved_msat`: of a payout, the reserve for its route."""

    seq: int
    at_ms: int
    kind: EntryKind
    amount_msat: Msat
    balance_msat: Msat
    request_id: str | None = None
    payment_hash: str | None = None
    spender: str | None = None
    reserved_msat: Msat | None = None


class LedgerPage(Reply, frozen=True, tag="ledger_page"):
    """Ledger entries, oldest first."""

    entries: tuple[LedgerEntry, ...]


# Commands. A grant holds the permissions of the caller's credential, whose signature is verified already.


class OpenSession(Command[SessionCreated, Never], frozen=True, tag="open_session"):
    """Open a session. The same amount and webhook again give the same session; others are a conflict.

    With `any_amount` an existing session is returned whatever its amount, because prices may have changed meanwhile.
    `refund_to`: the destination of its refunds, which must be the same again, too.
    """

    amount_sats: int
    client: str
    webhook: Webhook | None = None
    any_amount: bool = False
    refund_to: str | None = None


class GetSession(Command[SessionView, Never], frozen=True, tag="get_session"):
    """Get the session's view."""

    grant: Grant


class TopUp(Command[TopUpInvoice, Never], frozen=True, tag="top_up"):
    """Have an invoice made.

    With `any_open`, an open invoice over at least this amount does as well, if there is still time to pay it. The grant
    need not allow that, because the invoice is part of the answer to a request which the balance does not cover.
    """

    amount_sats: int
    once: Once
    grant: Grant
    any_open: bool = False


class Ask(Command[RequestAnswer, Held | TextDelta], frozen=True, tag="ask"):
    """Have a request answered. `btc_price` is the price at which it is held and charged.

    `max_tokens` None leaves the length of the answer to the operator's default. `refused`: the reason why no new
    request may begin just now; a repeated request that is under way or answered still gets its answer. `attempt`: a
    client's library sends the request, and sends it again when it gives up waiting for a whole answer. `tells_hold`:
    the first reply is then `Held`. `spender`: the one that the client names, for a credential without a name.
    """

    request_id: str
    request: str
    model: str
    max_tokens: int | None
    stream: bool
    once: Once
    grant: Grant
    btc_price: BtcPrice
    refused: Refusal | None = None
    attempt: Attempt | None = None
    tells_hold: bool = False
    spender: str | None = None


class Relay(Command[Relayed, Held | RelayHead | RelayBytes], frozen=True, tag="relay"):
    """Have a call in the provider's own protocol passed on. Needs the action `llm`; nothing evaluates it.

    `model` sets the price; `prompt_tokens_max` is an upper bound of the prompt at `prompt_rate`. `least_tokens`: a
    smaller `max_tokens` than this makes the call useless, or invalid for the provider. `billed_as`: options of the call
    that the provider bills apart from the plain rates; see `Usage`. `prompt_tokens`: the provider's own count, where it
    was asked for. `web_searches`: the most that the provider may make. `refused` and `spender`: as of `Ask`.
    """

    request_id: str
    model: str
    body: RelayBody
    headers: Mapping[str, str]
    beta: bool
    stream: bool
    prompt_tokens_max: int
    prompt_rate: PromptRate
    least_tokens: int
    once: Once
    grant: Grant
    btc_price: BtcPrice
    billed_as: tuple[str, ...] = ()
    attempt: Attempt | None = None
    prompt_tokens: int | None = None
    refused: Refusal | None = None
    tells_hold: bool = False
    spender: str | None = None
    web_searches: int = 0


class CountTokens(Command[Counted, Never], frozen=True, tag="count_tokens"):
    """Have the provider count a prompt, which costs nothing. `model` is the catalogue's."""

    request_id: str
    body: bytes
    headers: Mapping[str, str]
    model: str
    beta: bool
    grant: Grant


class CheckPayment(Command[SessionView, Never], frozen=True, tag="check_payment"):
    """Get the session's view, after asking the node about an invoice that is not known to be paid.

    payment_hash: the invoice's; the deposit is asked about if no open invoice has it.
    """

    grant: Grant
    payment_hash: str = ""


class GetLedger(Command[LedgerPage, Never], frozen=True, tag="get_ledger"):
    """Get at most `limit` ledger entries after number `after`."""

    after: int
    limit: int
    grant: Grant


class PlanPayout(Command[SessionView | PayoutPlan, Never], frozen=True, tag="plan_payout"):
    """Get the plan of a payout to a destination; joins the payout that `CloseSession` with this `once` has begun.

    amount_msat: the sum that the client asks for; None for all that can be paid out.
    """

    amount_msat: Msat | None
    once: Once
    grant: Grant


class CloseSession(Command[SessionView, Never], frozen=True, tag="close_session"):
    """Close the session and pay what is owed to the invoice, if there is one.

    waits: reply when the payout has ended, else when it is journaled. for_bearer: a link is to be given out by which
    any holder can take what is owed, so that a narrowed credential is refused.
    """

    target: PayoutTarget | None
    once: Once
    grant: Grant
    waits: bool = True
    for_bearer: bool = False


class NameRefundDestination(Command[SessionView, Never], frozen=True, tag="name_refund_destination"):
    """Name the destination to which the session's rest is paid by itself once the session is over."""

    destination: str
    grant: Grant
