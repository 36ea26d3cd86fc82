"""Quotes that bind: a work invoice's description holds the digest of the price breakdown that it is for.

The digest is SHA-256 over the breakdown's canonical JSON (RFC 8785): the very object that clients see as
`pricingBreakdown`, its members sorted, without white space, in UTF-8, numbers as ECMAScript writes them. So a client
that has both can check one against the other, and has the node's signature on it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from .money import usd_text
from .pricing import PricingBreakdown
from .timestamps import timestamp

# Beyond this, doubles can't represent all whole numbers, so JSON readers would disagree.
_MOST: Final = 2**53
# A node that keeps nothing but a description has the actor's id behind it, in brackets.
_IN_MEMO: Final = re.compile(r"\bsha256:([0-9a-f]{64})(?: \([0-9A-Za-z_-]+\))?$")


def quoted(breakdown: PricingBreakdown) -> dict[str, Any]:
    """Return the breakdown as clients see it, which is also the object that the digest is of."""
    return {
        "model": breakdown.model,
        "estimatedInputTokens": breakdown.estimated_input_tokens,
        "estimatedOutputTokens": breakdown.estimated_output_tokens,
        "modelCostUsd": usd_text(breakdown.model_cost_usd),
        "infraCostUsd": usd_text(breakdown.infra_cost_usd),
        "estimatedCostUsd": usd_text(breakdown.estimated_cost_usd),
        "marginPct": breakdown.margin_pct,
        "btcPriceUsd": usd_text(breakdown.btc_price.usd),
        "btcPriceSource": breakdown.btc_price.origin.value,
        "btcPriceAt": timestamp(breakdown.btc_price.at_ms),
        "amountSats": breakdown.amount_sats,
    }


def quote_digest(shown: Mapping[str, Any]) -> str:
    """Return the digest, in hex, of a breakdown as clients see it; its numbers are `int` or `Decimal`.

    Raises `ValueError` for values that no breakdown has.
    """
    return hashlib.sha256(canonical_json(shown)).hexdigest()


def canonical_json(shown: Mapping[str, Any]) -> bytes:
    """Encode a flat object of texts and numbers in the form of RFC 8785. Raises `ValueError` for other values."""
    members = [f"{_canonical(name)}:{_canonical(shown[name])}" for name in sorted(shown)]
    return f"{{{','.join(members)}}}".encode()


def _canonical(value: Any) -> str:
    match value:
        case str():
            return msgspec.json.encode(value).decode()
        case bool():
            raise ValueError("a quote has texts and numbers only")
        case int() if abs(value) < _MOST:
            return str(value)
        case Decimal() if value.is_finite() and abs(value) < _MOST:
            # Settings allow no more digits than a double keeps, so ECMAScript writes the same ones.
            return format(value.normalize(), "f") if value else "0"
    raise ValueError("a quote has texts and numbers only")


def quote_memo(breakdown: PricingBreakdown) -> str:
    """Return the description of the work's invoice."""
    return f"Satmeter: work by {breakdown.model}, quote sha256:{quote_digest(quoted(breakdown))}"


def digest_in(memo: str) -> str | None:
    """Return the digest in an invoice's description, or None."""
    found = _IN_MEMO.search(memo)
    return found[1] if found else None
