"""The wire: every body that the server takes or gives, as pydantic models. JSON is camelCase.

Bodies are validated by these, answers are built of them, and the OpenAPI document is generated from them. A field that
does not apply is absent, never null.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from ..actors.domain.errors import Code
from ..actors.domain.job.state import JobState
from ..actors.domain.payments.payouts import RefundState
from ..actors.domain.pricing import PriceOrigin, Size

REQUEST_CHARS_MAX = 100_000
DEMO_CHARS_MAX = 1_000

Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, description="RFC 3339, in UTC.")]
Usd = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+$", description="US dollars, exact, as a decimal string.")]
Count = Annotated[int, Field(ge=0)]
JobId = Annotated[
    str, Field(pattern="^job_[A-Za-z0-9_-]{32}$", description="Opaque. A client that knows it sees the job.")
]
PaymentHash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
PaymentRequest = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4_096,
        description="A BOLT11 invoice of yours over whole sats, valid for at least 30 more seconds: at most "
        "`payableSats` of `refund`, which is what is owed, less a reserve for routing fees of 2 sats or 1 %, whichever "
        "is more.",
    ),
]
# JSON numbers keep all digits of a decimal; only pydantic's own JSON would make it a string or a rounded float.
Percent = Annotated[Decimal, WithJsonSchema({"type": "number", "minimum": 0})]
Absent = SkipJsonSchema[None]


class Wire(BaseModel):
    """The base of all bodies: JSON in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)


def _not_null(value: object) -> object:
    """Refuse null. Validators run only on fields that are present."""
    if value is None:
        raise PydanticCustomError("null", "Must not be null; leave it out instead")
    return value


NOT_NULL = BeforeValidator(_not_null)


# What clients send


WebhookUrl = Annotated[
    str,
    Field(
        min_length=1,
        max_length=500,
        description="An https address of yours at port 443, of a public host.",
    ),
]


class JobWebhook(Wire):
    """The webhook of a job: it reports that the job waits for the payment of its work, and how the job ended."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: WebhookUrl


class NewJob(Wire):
    """A request to be evaluated, priced and done."""

    # A misspelt field must not be dropped in silence.
    model_config = ConfigDict(extra="forbid", strict=True)

    request: Annotated[
        str, Field(min_length=1, max_length=REQUEST_CHARS_MAX, pattern=r"\S", description="What is to be done.")
    ]
    webhook: Annotated[JobWebhook | None, NOT_NULL] = None


class RefundOrder(Wire):
    """The invoice that a job's refund is paid to."""

    model_config = ConfigDict(extra="forbid", strict=True)

    payment_request: PaymentRequest


# Jobs


class Invoice(Wire):
    """A Lightning invoice over whole satoshis."""

    payment_request: Annotated[str, Field(description="BOLT11: what a wallet pays.")]
    payment_hash: PaymentHash
    amount_sats: Annotated[int, Field(ge=1)]
    expires_at: Timestamp


class WebhookMade(Wire):
    """A webhook, and the secret that signs what is sent there (Standard Webhooks, `webhook-signature` v1)."""

    url: str
    low_balance_sats: Annotated[int | Absent, Field(description="Of a session.")] = None
    secret: Annotated[str, Field(pattern="^whsec_[A-Za-z0-9+/]+=*$")]


class JobCreated(Wire):
    """A new job, which waits for the payment of its evaluation."""

    job_id: JobId
    state: Literal[JobState.AWAITING_EVAL_PAYMENT]
    eval_invoice: Invoice
    notice: Annotated[str, Field(description="What becomes of the evaluation fee.")]
    webhook: WebhookMade | Absent = None


class PricingBreakdown(Wire):
    """The calculation of the work's price.

    `amountSats = max(1, ceil((modelCostUsd + infraCostUsd) * (1 + marginPct/100) / btcPriceUsd * 1e8))`. It binds the
    server: the work invoice's description ends in `sha256:` and the digest, in hex, of this object by RFC 8785.
    """

    model: str
    estimated_input_tokens: Count
    estimated_output_tokens: Count
    model_cost_usd: Usd
    infra_cost_usd: Usd
    estimated_cost_usd: Usd
    margin_pct: Percent
    btc_price_usd: Usd
    btc_price_source: PriceOrigin
    btc_price_at: Timestamp
    amount_sats: Annotated[int, Field(ge=1)]


class CostLedger(Wire):
    """The actual cost of the work. `chargedMsat` is never more than `paidMsat`; `refundMsat` is the rest.

    Of a session's request, `paidMsat` is what was on hold for it, and `refundMsat` what was released; a rejected one
    shows the tokens of its evaluation.
    """

    model: str
    actual_input_tokens: Count
    actual_output_tokens: Count
    total_tokens: Annotated[int, Field(ge=0, description="Input and output.")]
    cache_read_tokens: Count
    cache_write_tokens: Count
    actual_cost_usd: Usd
    evaluation_cost_usd: Annotated[
        Usd | Absent, Field(description="The evaluation's part of the cost; of a session's request.")
    ] = None
    charged_msat: Count
    paid_msat: Count
    refund_msat: Count


class Refund(Wire):
    """The amounts owed to the client and paid back to it.

    `paid`: nothing is left that could be paid out; `partly_paid`: some is. What a route did not cost of its reserve is
    owed again.
    """

    owed_msat: Count
    paid_msat: Count
    payable_sats: Annotated[
        int,
        Field(
            ge=0,
            description="The most that an invoice may ask for now: what is owed, and of an open session its balance, "
            "less the reserve for routing fees; 0 while a payout is under way. What is owed for a failure of ours is "
            "paid out whole, without a reserve.",
        ),
    ]
    state: RefundState
    failure: Annotated[str | Absent, Field(description="What became of the last payout, when it failed.")] = None
    failure_code: Annotated[
        Literal["payment_failed", "server_cannot_pay"] | Absent,
        Field(
            description="With `failure`. `payment_failed`: the payment failed for certain, and another invoice may be "
            "paid. `server_cannot_pay`: the server's wallet or key is at fault; the same invoice may be sent again "
            "once its operator has mended that."
        ),
    ] = None


class JobStatus(Wire):
    """A job. Which fields are there depends on its state."""

    job_id: JobId
    state: JobState
    created_at: Timestamp
    updated_at: Timestamp
    eval_invoice: Invoice
    work_invoice: Invoice | Absent = None
    pricing_breakdown: PricingBreakdown | Absent = None
    reason: Annotated[str | Absent, Field(description="Why the request was rejected.")] = None
    result: Annotated[str | Absent, Field(description="The work.")] = None
    error_message: Annotated[str | Absent, Field(description="What failed.")] = None
    cost_ledger: CostLedger | Absent = None
    refund: Refund | Absent = None
    waiting_for: Annotated[
        Literal["model"] | Absent,
        Field(description="The model is away: the job goes on when it is back, within the life of what was paid for."),
    ] = None


# Around it


class Rates(Wire):
    """US dollars for a million tokens of each kind."""

    input: Usd
    output: Usd
    cache_read: Usd
    # By rule they would become cacheWrite5M and cacheWrite1H.
    cache_write_5m: Annotated[Usd, Field(alias="cacheWrite5m")]
    cache_write_1h: Annotated[Usd, Field(alias="cacheWrite1h")]


class LongPromptRates(Rates):
    """Rates for the whole request once its prompt has more than `thresholdTokens`."""

    threshold_tokens: Count


Multipliers = Annotated[
    dict[str, str], Field(description="Of all rates, by what a call asks for: `inference_geo_us` is that field's `us`.")
]


class ModelRates(Wire):
    """A model and what its provider takes for it."""

    model: str
    rates: Rates
    long_prompt_rates: LongPromptRates | Absent = None
    multipliers: Multipliers | Absent = None


class Tier(Wire):
    """The token estimates of one size of work: the tokens that the price assumes, and the limit of the answer."""

    input_tokens: Count
    output_tokens: Count
    max_tokens: Count


class BtcPrice(Wire):
    """The exchange rate that work is quoted at."""

    usd: Usd
    source: PriceOrigin
    at: Timestamp
    age_s: Count


class Pricing(Wire):
    """Everything that a price depends on but the request."""

    models: list[ModelRates]
    eval_model: Annotated[str, Field(description="The model that evaluates requests.")]
    work_model: Annotated[str, Field(description="The model that does the work.")]
    margin_pct: Percent
    infra_cost_usd: Annotated[Usd, Field(description="Infrastructure, for one request.")]
    eval_fee_sats: Count
    tiers: dict[Size, Tier]
    btc_price: BtcPrice


class FieldError(Wire):
    """One thing that does not fit."""

    path: Annotated[str, Field(description="Where, with dots; empty for the whole body.")]
    message: str


class Error(BaseModel):
    """Every error. Clients branch on `code`; further fields help to mend it."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow", frozen=True)

    error: Annotated[str, Field(description="One sentence for a person.")]
    code: Code | Literal["internal_error"]
    request_id: Annotated[str, Field(pattern="^req_[A-Za-z0-9_-]+$")]
    fields: Annotated[list[FieldError] | Absent, Field(description="With `invalid_request`.")] = None
    state: Annotated[str | Absent, Field(description="With `wrong_state`.")] = None
    unreachable: Annotated[list[str] | Absent, Field(description="With `unavailable`, from /readyz.")] = None
    in_doubt: Annotated[
        bool | Absent,
        Field(description="With `unavailable`, when something may have been charged: repeat it under its key only."),
    ] = None
    retry_after_seconds: Annotated[
        int | Absent, Field(description="As the Retry-After header, also in an answer that had begun before it failed.")
    ] = None
    limit_bytes: Annotated[int | Absent, Field(description="With `body_too_large`.")] = None
    required_msat: Annotated[
        int | Absent, Field(description="With `insufficient_balance`: what the smallest useful answer can cost.")
    ] = None
    balance_msat: Annotated[
        int | Absent, Field(description="With `insufficient_balance`, and with `model_failed` of a stream.")
    ] = None
    debited_msat: Annotated[
        int | Absent, Field(description="With `model_failed` after the answer had begun: what it cost.")
    ] = None
    top_up_invoice: Annotated[
        Invoice | Absent, Field(description="With `insufficient_balance`: pay it, and the request fits.")
    ] = None
    deposit_invoice: Annotated[
        Invoice | Absent, Field(description="With `payment_required`: the deposit that was not paid yet.")
    ] = None
    session_id: Annotated[
        str | Absent, Field(description="With `payment_required` of a challenge: the session that the deposit opens.")
    ] = None
    caveat: Annotated[str | Absent, Field(description="With `caveat_violated`: the one that forbids it.")] = None
    max_sats: Annotated[int | Absent, Field(description="With `invalid_request`: the most that can be paid out.")] = (
        None
    )
