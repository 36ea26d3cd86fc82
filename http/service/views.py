"""JSON models of prices."""

from __future__ import annotations

from ...actors.domain import pricing
from ...actors.domain.llm.catalogue import ModelEntry
from ...actors.domain.money import usd_text
from ...actors.domain.timestamps import timestamp
from . import schemas


def btc_price(price: pricing.BtcPrice, now_ms: int) -> schemas.BtcPrice:
    """Return the exchange rate with its age."""
    return schemas.BtcPrice(
        usd=usd_text(price.usd),
        source=price.origin,
        at=timestamp(price.at_ms),
        # The clocks of two machines differ: the age of a price must not be negative.
        age_s=max(0, now_ms - price.at_ms) // 1_000,
    )


def model_rates(entry: ModelEntry) -> schemas.ModelRates:
    """Return a model's rates and limits."""
    price, long = entry.price, entry.price.long_prompt
    return schemas.ModelRates(
        model=price.model,
        rates=schemas.Rates(**rates(price.rates)),
        long_prompt_rates=None
        if long is None
        else schemas.LongPromptRates(threshold_tokens=long.threshold_tokens, **rates(long.rates)),
        multipliers={name: format(factor, "f") for name, factor in price.multipliers.items()} or None,
        per_request_usd=usd_text(price.per_request) if price.per_request else None,
        web_search_per_1000_usd=None if price.web_search_per_1000 is None else usd_text(price.web_search_per_1000),
        aliases=list(entry.aliases) or None,
        context_tokens=entry.context_tokens,
        max_output_tokens=entry.max_output_tokens,
        upstreams=list(entry.upstreams),
    )


def rates(of_model: pricing.Rates) -> dict[str, str]:
    """Return the fields of `schemas.Rates`."""
    return {
        "input": usd_text(of_model.input),
        "output": usd_text(of_model.output),
        "cache_read": usd_text(of_model.cache_read),
        "cache_write_5m": usd_text(of_model.cache_write_5m),
        "cache_write_1h": usd_text(of_model.cache_write_1h),
    }


def tier(estimates: pricing.Tier) -> schemas.Tier:
    """Return the token estimates of one size of work."""
    return schemas.Tier(
        input_tokens=estimates.input_tokens,
        output_tokens=estimates.output_tokens,
        max_tokens=estimates.max_tokens,
    )
