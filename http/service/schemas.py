"""Schemas of what stands around jobs and sessions: the demo, prices, health, and the stub node's side door."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...actors.domain.pricing import PriceOrigin, Size
from ..schema import NOT_BLANK, WHOLE, Absent, Count, Percent, Timestamp, Usd, Wire
from ..sessions.schemas import Amount

DEMO_CHARS_MAX = 1_000


class DemoQuery(Wire):
    """A free request."""

    request: Annotated[
        str, Field(min_length=1, max_length=DEMO_CHARS_MAX, pattern=NOT_BLANK, description="A small question.")
    ]


class DemoResult(Wire):
    """The answer to a free request."""

    result: str


class Health(Wire):
    """The process answers."""

    status: Literal["ok"]


class Payouts(Wire):
    """The findings of the comparison of payouts with the journals.

    A payment of the wallet for a session or job that no journal records as paid is lost to the operator.
    """

    unknown_count: Annotated[int, Field(ge=0, description="Payments of the last 7 days that no journal shows as paid.")]
    unknown_msat: Annotated[int, Field(ge=0, description="What they add up to, with what routing cost.")]
    compared_count: Annotated[int, Field(ge=0, description="Payments that were compared.")]
    compared_since: Annotated[Timestamp | Absent, Field(description="When the oldest of them was made.")] = None
    refused_count: Annotated[int, Field(ge=0, description="Payouts ever that the node would not even try.")]
    long_pending_count: Annotated[
        Count | Absent, Field(description="Payouts under way for more than a day; the node has not told their end.")
    ] = None
    long_pending_msat: Annotated[Count | Absent, Field(description="What they add up to.")] = None
    long_pending_since: Annotated[Timestamp | Absent, Field(description="When the oldest of them began.")] = None
    trouble: Annotated[
        str | Absent, Field(description="Why refunds can't be paid now, or could not within the last hour.")
    ] = None


class Ready(Wire):
    """All parts can be reached. `payouts` is what the treasury found last; `warnings` are for the operator."""

    status: Literal["ready"]
    checks: dict[str, Literal["ok"]]
    payouts: Payouts | Absent = None
    warnings: Annotated[list[str] | Absent, Field(description="What only the operator can mend.")] = None


class Paid(Wire):
    """A stub invoice counts as paid."""

    paid: Literal[True]
    preimage: Annotated[
        str,
        Field(
            pattern="^[0-9a-f]{64}$",
            description="The proof of the payment, which a wallet would have: `L402 <macaroon>:<preimage>`.",
        ),
    ]


class StubAmount(Amount):
    """The amount of an invoice to be paid out to."""

    amount_sats: Annotated[int, Field(ge=1, le=100_000_000, description="Whole sats."), WHOLE]


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


PerRequest = Annotated[str, Field(description="US dollars for each call, beside its tokens.")]


WebSearch = Annotated[
    Usd | Absent,
    Field(
        alias="webSearchPer1000Usd",
        description="US dollars for a thousand of the provider's web searches, beside the tokens of their results.",
    ),
]


class ModelRates(Wire):
    """A model and what its provider takes for it. An alias is another name of it, at the same price."""

    model: str
    rates: Rates
    long_prompt_rates: LongPromptRates | Absent = None
    multipliers: Multipliers | Absent = None
    per_request_usd: PerRequest | Absent = None
    web_search_per_1000_usd: WebSearch = None
    aliases: list[str] | Absent = None
    context_tokens: Annotated[Count | Absent, Field(description="Of prompt and answer together.")] = None
    max_output_tokens: Annotated[
        Count | Absent, Field(description="The longest answer; a higher limit is lowered.")
    ] = None
    upstreams: Annotated[list[str], Field(description="The servers that answer, in the order in which they are tried.")]


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
