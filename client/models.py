"""Models of the server's answers: snake_case names, units last, amounts in whole sats or millisatoshis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

JobState = Literal[
    "awaiting_eval_payment",
    "evaluating",
    "awaiting_work_payment",
    "executing",
    "complete",
    "rejected",
    "failed",
    "expired",
]
SessionState = Literal["awaiting_payment", "active", "closed", "expired"]
RefundState = Literal["none", "owed", "pending", "partly_paid", "paid"]
EntryKind = Literal["deposit", "hold", "debit", "release", "refund"]


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The base of all models. JSON is camelCase, and fields that a newer server adds are ignored."""


class Invoice(_Wire, frozen=True, kw_only=True):
    """A Lightning invoice over whole sats. `payment_request` is the BOLT11 text that a wallet pays."""

    payment_request: str
    payment_hash: str
    amount_sats: int
    expires_at: datetime


class WithdrawLink(_Wire, frozen=True, kw_only=True):
    """A link by which a phone fetches what is owed. It is money: any holder takes it, and it is left out of the repr.

    `lnurl` is what a wallet scans, `link` opens one on a phone, and `qr` is the address of the code as a picture.
    """

    lnurl: str
    link: str
    qr: str

    def __repr__(self) -> str:
        return "WithdrawLink()"


class Route(_Wire, frozen=True, kw_only=True):
    """The route of a payout: what was set aside for it and, once that is paid, what it cost and what came back."""

    payment_hash: str
    reserved_msat: int
    fee_msat: int | None = None
    returned_msat: int | None = None


class Refund(_Wire, frozen=True, kw_only=True):
    """The amounts owed to you and paid back. `failure` says why the last payout failed, if it did.

    `route` is that of the payout under way, else of the last one that was paid.

    `failure_code` is "payment_failed", after which another invoice may help, or "server_cannot_pay", which only the
    server's operator can mend. `payable_sats` is the most that an invoice may ask for now; None from a server that does
    not say so. `destination` is where it is paid by itself, `last_error` why the last try came to nothing, and
    `next_attempt_at` the time of the next one.
    """

    owed_msat: int = 0
    paid_msat: int = 0
    payable_sats: int | None = None
    state: RefundState = "none"
    route: Route | None = None
    failure: str | None = None
    failure_code: str | None = None
    destination: str | None = None
    last_error: str | None = None
    next_attempt_at: datetime | None = None
    withdraw: WithdrawLink | None = None

    @property
    def worth_another_invoice(self) -> bool:
        """True if a further payout can succeed now, which is false while the server itself can't pay."""
        return self.state != "pending" and self.failure_code != "server_cannot_pay"


class SignedReceipt(_Wire, frozen=True, kw_only=True):
    """A receipt: the charge and its reasons as the server wrote them (camelCase), with its signature over them."""

    receipt: dict[str, Any]
    jws: str

    def to_json(self) -> bytes:
        """Encode the receipt as a file for `satmeter receipt verify`."""
        return msgspec.json.encode(self)


class CostLedger(_Wire, frozen=True, kw_only=True):
    """The cost of a model call: `charged_msat` of `paid_msat`, of which `refund_msat` is the rest."""

    model: str
    actual_input_tokens: int
    actual_output_tokens: int
    total_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    actual_cost_usd: Decimal
    charged_msat: int
    paid_msat: int
    refund_msat: int
    evaluation_cost_usd: Decimal | None = None


class Answer(_Wire, frozen=True, kw_only=True):
    """The end of a request. For a rejected one, `result` is None and `reason` says why.

    `max_tokens` is the longest answer that the balance covered. `stop_reason` is `cancelled` if the connection was
    lost during the answer: the text until then is the answer, and was charged.
    """

    request_id: str
    state: Literal["complete", "rejected"]
    model: str
    max_tokens: int
    cost_ledger: CostLedger
    debited_msat: int
    balance_msat: int
    balance_sats: int
    result: str | None = None
    reason: str | None = None
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        """The answer, or the reason why there is none."""
        return (self.result if self.state == "complete" else self.reason) or ""


class SessionOpened(_Wire, frozen=True, kw_only=True):
    """A new session. The macaroon is money: it is left out of the repr."""

    session_id: str
    macaroon: str
    deposit_invoice: Invoice
    expires_at: datetime

    def __repr__(self) -> str:
        return f"SessionOpened(session_id={self.session_id!r}, amount_sats={self.deposit_invoice.amount_sats})"


class SessionStatus(_Wire, frozen=True, kw_only=True):
    """A session: `balance_msat` can be spent, `held_msat` is set aside for requests that are under way."""

    session_id: str
    state: SessionState
    balance_msat: int
    balance_sats: int
    held_msat: int
    deposited_msat: int
    spent_msat: int
    refund: Refund
    expires_at: datetime
    pending_invoices: list[Invoice]


class LedgerEntry(_Wire, frozen=True, kw_only=True):
    """One movement of a session's balance. `spender` is the name in the credential that spent it.

    A debit without a request is the cost of a payout's route: `reserved_msat` was set aside for it, `returned_msat`
    came back.
    """

    seq: int
    at: datetime
    kind: EntryKind
    amount_msat: int
    balance_msat: int
    request_id: str | None = None
    payment_hash: str | None = None
    spender: str | None = None
    reserved_msat: int | None = None
    returned_msat: int | None = None


class PricingBreakdown(_Wire, frozen=True, kw_only=True):
    """The calculation of the price of a job's work."""

    model: str
    estimated_input_tokens: int
    estimated_output_tokens: int
    model_cost_usd: Decimal
    infra_cost_usd: Decimal
    estimated_cost_usd: Decimal
    margin_pct: Decimal
    btc_price_usd: Decimal
    btc_price_source: str
    btc_price_at: datetime
    amount_sats: int


class JobOpened(_Wire, frozen=True, kw_only=True):
    """A new job, to be evaluated once `eval_invoice` is paid. `notice` explains that fee."""

    job_id: str
    state: JobState
    eval_invoice: Invoice
    notice: str = ""


class JobStatus(_Wire, frozen=True, kw_only=True):
    """A job as it is now. Its state decides which fields are set. `waiting_for`: "model" while that is away."""

    job_id: str
    state: JobState
    created_at: datetime
    updated_at: datetime
    eval_invoice: Invoice
    work_invoice: Invoice | None = None
    pricing_breakdown: PricingBreakdown | None = None
    reason: str | None = None
    result: str | None = None
    error_message: str | None = None
    cost_ledger: CostLedger | None = None
    refund: Refund | None = None
    waiting_for: str | None = None

    @property
    def done(self) -> bool:
        """True if the job has ended; only a refund may follow."""
        return self.state in ("complete", "rejected", "failed", "expired")

    @property
    def due(self) -> Invoice | None:
        """The invoice that the job waits for, if any."""
        waits_for = {"awaiting_eval_payment": self.eval_invoice, "awaiting_work_payment": self.work_invoice}
        return waits_for.get(self.state)


class Rates(_Wire, frozen=True, kw_only=True):
    """US dollars for a million tokens of each kind."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal = msgspec.field(name="cacheWrite5m")
    cache_write_1h: Decimal = msgspec.field(name="cacheWrite1h")


class LongPromptRates(Rates, frozen=True, kw_only=True):
    """The rates of a whole request whose prompt has more tokens than the threshold."""

    threshold_tokens: int


class ModelRates(_Wire, frozen=True, kw_only=True):
    """A model and its provider's rates."""

    model: str
    rates: Rates
    long_prompt_rates: LongPromptRates | None = None
    multipliers: Mapping[str, Decimal] | None = None
    per_request_usd: Decimal = Decimal(0)
    web_search_per_1000_usd: Decimal | None = msgspec.field(default=None, name="webSearchPer1000Usd")
    aliases: Sequence[str] = ()
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    upstreams: Sequence[str] = ()


class Tier(_Wire, frozen=True, kw_only=True):
    """The token estimates for work of one size."""

    input_tokens: int
    output_tokens: int
    max_tokens: int


class BtcPrice(_Wire, frozen=True, kw_only=True):
    """The exchange rate of the server's prices."""

    usd: Decimal
    source: str
    at: datetime
    age_s: int


class Pricing(_Wire, frozen=True, kw_only=True):
    """Everything that a price depends on but the request."""

    models: list[ModelRates]
    eval_model: str
    work_model: str
    margin_pct: Decimal
    infra_cost_usd: Decimal
    eval_fee_sats: int
    tiers: dict[str, Tier]
    btc_price: BtcPrice


class TopUpOpened(_Wire, frozen=True, kw_only=True):
    """A further invoice of a session."""

    top_up_invoice: Invoice


class LedgerPage(_Wire, frozen=True, kw_only=True):
    """A page of the ledger."""

    entries: list[LedgerEntry]


class Paid(_Wire, frozen=True, kw_only=True):
    """The confirmation that a stub invoice counts as paid."""

    paid: bool
