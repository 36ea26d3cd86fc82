"""Schemas of receipts. The order of a receipt's fields is part of the signed bytes: new fields come last."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...actors.domain.pricing import PriceOrigin
from ..jobs.schemas import JobId
from ..schema import Absent, Count, Percent, Timestamp, Usd, Wire
from ..service.schemas import Rates
from ..sessions.schemas import RequestId, SessionId

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ProviderUsage(Wire):
    """The provider's own report of a call, which no rule of the server has changed."""

    upstream: Annotated[
        str | Absent, Field(description="The server that answered the call, by its name in the operator's catalogue.")
    ] = None
    request_id: Annotated[str | Absent, Field(description="The provider's id of the call.")] = None
    first_usage: Annotated[
        str | Absent, Field(description="The `usage` of a stream's first event (`message_start`), to the byte.")
    ] = None
    usage: Annotated[
        list[str],
        Field(
            description="The `usage` of a whole answer, or of a stream's last events (`message_delta`), to the byte; "
            "empty where the provider gave none."
        ),
    ]
    partial: Annotated[
        Literal[True] | Absent,
        Field(description="These figures don't count the whole answer: its other tokens are counted apart."),
    ] = None
    cut: Annotated[
        Literal[True] | Absent,
        Field(description="The objects had more than 4 kB, or were not UTF-8: they are left out."),
    ] = None
    api: Annotated[
        Literal["openai"] | Absent,
        Field(
            description="`openai`: the upstream speaks chat completions, whose figures count the cached tokens as part "
            "of the prompt. `usage` then has all objects whose answers' tokens add up: one, or one for each choice. "
            "`firstUsage` is one that was replaced, but for its figures of the prompt. Absent: the Messages API."
        ),
    ] = None
    missing: Annotated[
        Literal[True] | Absent,
        Field(description="The objects lack figures that the bill needs: the tokens are charged without them."),
    ] = None


class Charge(Wire):
    """The tokens that one model used, and the rates applied to them, in US dollars for a million."""

    step: Literal["evaluation", "work"]
    model: str
    input_tokens: Count
    output_tokens: Count
    cache_read_tokens: Count
    cache_write_5m_tokens: Annotated[Count, Field(alias="cacheWrite5mTokens")]
    cache_write_1h_tokens: Annotated[Count, Field(alias="cacheWrite1hTokens")]
    rates: Rates
    cost_usd: Usd
    provider: Annotated[
        ProviderUsage | Absent, Field(description="Absent for calls of before reports were kept, or without an answer.")
    ] = None
    per_request_usd: Annotated[
        Usd | Absent, Field(description="The model's price for each call, which is part of `costUsd`.")
    ] = None
    web_searches: Annotated[Count | Absent, Field(description="Searches that the provider made.")] = None
    web_search_per_1000_usd: Annotated[
        Usd | Absent,
        Field(
            alias="webSearchPer1000Usd",
            description="The price of a thousand of them; that of those made is part of `costUsd`.",
        ),
    ] = None


class Receipt(Wire):
    """A receipt: the charge for one request and answer, with its calculation.

    `costUsd` is the sum of the charges' and of `infraCostUsd`, and `chargedMsat = min(limitMsat, ceil(costUsd *
    (1 + marginPct/100) / btcPriceUsd * 1e11))`. A request that reached no model has no charges, and costs nothing.
    """

    version: Literal[1]
    key_id: Annotated[str, Field(description="The RFC 7638 thumbprint of the key that signed it.")]
    job_id: JobId | Absent = None
    session_id: SessionId | Absent = None
    request_id: RequestId | Absent = None
    spender: Annotated[
        str | Absent,
        Field(description="The `name` caveats of the credential that spent it, or else the name that a header gave."),
    ] = None
    state: Annotated[
        Literal["complete", "rejected", "failed", "expired", "broken", "left"],
        Field(description="How it ended; `broken` by the model's failure, `left` by its client, in mid-answer."),
    ]
    at: Timestamp
    request_sha256: Annotated[Digest, Field(alias="requestSha256", description="Of the request's bytes.")]
    answer_sha256: Annotated[
        Digest | Absent,
        Field(alias="answerSha256", description="Of the answer's bytes, or of the reason when it was rejected."),
    ] = None
    charges: list[Charge]
    infra_cost_usd: Usd
    cost_usd: Usd
    margin_pct: Percent | Absent = None
    btc_price_usd: Usd | Absent = None
    btc_price_source: PriceOrigin | Absent = None
    btc_price_at: Timestamp | Absent = None
    charged_msat: Count
    limit_msat: Annotated[int, Field(ge=0, description="What was on hold for it, or paid for the work.")]
    evaluation_fee_msat: Annotated[Count | Absent, Field(description="The flat fee of a job, on top.")] = None
    ledger_seq: Annotated[Count | Absent, Field(description="The number of the debit in the ledger.")] = None


class SignedReceipt(Wire):
    """A receipt to read, and the same one as it is signed: only what is in `jws` counts."""

    receipt: Receipt
    jws: Annotated[str, Field(description="Compact JWS (RFC 7515) whose payload is the receipt, signed with EdDSA.")]


class PublicKey(Wire):
    """An Ed25519 key as a JSON Web Key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    alg: Literal["EdDSA"]
    use: Literal["sig"]


class WellKnown(Wire):
    """The server's description, its operations' paths, and the keys that sign its receipts (a JSON Web Key Set)."""

    name: Literal["Satmeter"]
    description: str
    version: str
    documentation: str
    endpoints: Annotated[dict[str, str], Field(description="Method and path, by the operation's id in /openapi.json.")]
    keys: list[PublicKey]
