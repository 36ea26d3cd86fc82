"""Schemas of what jobs and sessions share about payments: costs, refunds, webhooks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ...actors.domain.payments.payouts import RefundState
from ..schema import NOT_NULL, WHOLE, Absent, Count, PaymentHash, PaymentRequest, Timestamp, Usd, Wire

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


class SessionWebhook(Wire):
    """The webhook of a session: it reports that the balance, holds included, fell under `lowBalanceSats`.

    It also reports that 80 % of a spend limit of a macaroon are spent.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    url: WebhookUrl
    low_balance_sats: Annotated[int, Field(ge=1, le=100_000_000, description="Whole sats."), WHOLE]


class WebhookMade(Wire):
    """A webhook, and the secret that signs what is sent there (Standard Webhooks, `webhook-signature` v1)."""

    url: str
    low_balance_sats: Annotated[int | Absent, Field(description="Of a session.")] = None
    secret: Annotated[str, Field(pattern="^whsec_[A-Za-z0-9+/]+=*$")]


PayoutSats = Annotated[
    int,
    Field(
        ge=1,
        le=100_000_000,
        description="With a Lightning address or LNURL: the whole sats to be paid, by default all of `payableSats`.",
    ),
    WHOLE,
]


class RefundOrder(Wire):
    """The invoice, address or code that a refund is paid to."""

    model_config = ConfigDict(extra="forbid", strict=True)

    payment_request: PaymentRequest
    amount_sats: Annotated[PayoutSats | None, NOT_NULL] = None


RefundTo = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4_096,
        description="Where the rest is paid by itself: a Lightning address (`name@example.org`) or an LNURL-pay code, "
        "whose server is at a public https address.",
        examples=["name@example.org"],
    ),
]


class RefundDestination(Wire):
    """The destination that a session's rest is paid to by itself."""

    model_config = ConfigDict(extra="forbid", strict=True)

    refund_to: RefundTo


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


class Route(Wire):
    """The route of a payout. What it did not cost of its reserve came back, and is owed again."""

    payment_hash: PaymentHash
    reserved_msat: Annotated[int, Field(ge=0, description="Set aside for it; 0 within the server's own node.")]
    fee_msat: Annotated[Count | Absent, Field(description="What it cost of that, once the payout is paid.")] = None
    returned_msat: Annotated[Count | Absent, Field(description="The rest, once the payout is paid.")] = None


class WithdrawLink(Wire):
    """A link by which a wallet fetches what is owed (LNURL-withdraw). A bearer token: any holder of it takes the money.

    It is good for as long as something is owed.
    """

    lnurl: Annotated[str, Field(pattern="^LNURL1[0-9A-Z]+$", description="What a wallet scans.")]
    link: Annotated[str, Field(description="The same as a link that opens a wallet: `lightning:LNURL1…`.")]
    qr: Annotated[str, Field(description="Where it is as a QR code, an SVG picture.")]


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
            "paid out whole, without a reserve. An invoice that the server's own node made needs no route, and may "
            "ask for the reserve, too.",
        ),
    ]
    state: RefundState
    route: Annotated[
        Route | Absent, Field(description="The route of the payout under way, else of the last one that was paid.")
    ] = None
    withdraw: Annotated[
        WithdrawLink | Absent,
        Field(description="Of a job that owes what can be paid out, and of a session in the answer that made it."),
    ] = None
    failure: Annotated[str | Absent, Field(description="What became of the last payout, when it failed.")] = None
    failure_code: Annotated[
        Literal["payment_failed", "server_cannot_pay"] | Absent,
        Field(
            description="With `failure`. `payment_failed`: the payment failed for certain, and another invoice may be "
            "paid. `server_cannot_pay`: the server's wallet or key is at fault; the same invoice may be sent again "
            "once its operator has mended that."
        ),
    ] = None
    destination: Annotated[
        str | Absent, Field(description="Where it is paid by itself, as `refundTo` or a later naming said.")
    ] = None
    last_error: Annotated[
        str | Absent,
        Field(
            description="Why the last try to pay there came to nothing. `unreachable`: it did not answer, or not well. "
            "`used_invoice`: it gave an invoice of before. `payment_failed`: its invoice could not be paid. "
            "`server_cannot_pay`: this server's wallet or key is at fault. The others say what is wrong with the "
            "destination, such as `not_found`, `refused`, `amount_too_small` or `wrong_amount`. New ones may come."
        ),
    ] = None
    next_attempt_at: Annotated[
        Timestamp | Absent, Field(description="The next try. Without it, after 30 days, there is none.")
    ] = None
