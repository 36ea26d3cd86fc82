"""Schemas of the list of models: OpenAI's shape and Anthropic's at once, so that the SDKs of both read it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..schema import Absent, Count, Percent, Timestamp, Usd, Wire
from ..service.schemas import LongPromptRates, Multipliers, PerRequest, Rates, WebSearch


class MillionMsat(Wire):
    """The cost of a million tokens of each kind, with margin, at the present exchange rate, rounded up."""

    input: Count
    output: Count
    cache_read: Count
    # By rule they would become cacheWrite5M and cacheWrite1H.
    cache_write_5m: Annotated[Count, Field(alias="cacheWrite5m")]
    cache_write_1h: Annotated[Count, Field(alias="cacheWrite1h")]


class LongPromptMillionMsat(MillionMsat):
    """The cost of a million tokens for the whole request once its prompt has more than `thresholdTokens`."""

    threshold_tokens: Count


class ModelPricing(Wire):
    """The provider's rates, and what a request comes to: `requestMsat`, and its tokens by `perMillionTokensMsat`."""

    rates: Rates
    long_prompt_rates: LongPromptRates | Absent = None
    multipliers: Multipliers | Absent = None
    per_request_usd: PerRequest | Absent = None
    web_search_per_1000_usd: WebSearch = None
    margin_pct: Percent
    btc_price_usd: Usd
    btc_price_at: Timestamp
    request_msat: Annotated[Count, Field(description="For each request, beside its tokens.")]
    per_million_tokens_msat: MillionMsat
    long_prompt_per_million_tokens_msat: LongPromptMillionMsat | Absent = None


class Model(BaseModel):
    """A model. The names of these fields are OpenAI's and Anthropic's; `aliases` and `pricing` are ours."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["model"]
    type: Literal["model"]
    owned_by: Annotated[str, Field(description="The upstream that answers.")]
    display_name: str
    lifecycle: Literal["active"]
    created: Annotated[int, Field(description="Always 0: when the model came out is not known here.")]
    created_at: Annotated[Timestamp, Field(description="The same as a time, which is the beginning of 1970.")]
    max_input_tokens: Annotated[
        int | None, Field(description="The context of prompt and answer together; null where it is not known.")
    ]
    max_tokens: Annotated[int | None, Field(description="The longest answer; null where it is not known.")]
    aliases: Annotated[list[str], Field(description="Other names of this model, at the same price.")]
    pricing: ModelPricing


class Models(BaseModel):
    """All models, on one page."""

    model_config = ConfigDict(frozen=True)

    object: Literal["list"]
    data: list[Model]
    models: Annotated[
        list[dict[str, Any]] | Absent,
        Field(description="The catalogue of OpenAI's Codex, if `client_version` asks for it."),
    ] = None
    has_more: Literal[False]
    first_id: str
    last_id: str
