"""`satmeter receipt verify`: offline checks of a receipt's signature, digests and price."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ...actors.domain.money import EXACT, MoneyError, usd_text, usd_to_msat
from ...http.receipts.signing import ALGORITHM, TYPE, thumbprint
from .quote import MismatchError

Json = dict[str, Any]
_PARTS: Final = 3
_MTOK: Final = Decimal(1_000_000)
_RATES: Final = {
    "inputTokens": "input",
    "outputTokens": "output",
    "cacheReadTokens": "cacheRead",
    "cacheWrite5mTokens": "cacheWrite5m",
    "cacheWrite1hTokens": "cacheWrite1h",
}
# The server's additions to a provider's answer: comments and pings in a stream, the cost in the last usage, and its
# fields in the provider's error.
_COMMENTS: Final = re.compile(rb'^: [^\n]*\n(?:event: ping\ndata: \{"type": "ping"\}\n)?\n', re.MULTILINE)
_COST_IN_USAGE: Final = re.compile(rb',?"cost_msat":\d+,"cost_usd":"[^"]*","balance_msat":\d+(?=\})')
_FIELDS_OF_ERROR: Final = re.compile(
    rb',(?:"code":"model_failed",)?"requestId":"req_[^"]*","retryAction":"[^"]*","paymentState":"[^"]*",'
    rb'"debitedMsat":\d+,"balanceMsat":\d+(?=\})'
)


def exact_json(data: bytes | str) -> Any:
    """Parse JSON, with fractions as `Decimal`. Raises `MismatchError` if it can't be parsed."""
    try:
        return json.loads(data, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise MismatchError("The receipt does not hold JSON.") from None


def jws_of(data: bytes) -> tuple[str, Json | None]:
    """Return the signed text, and the readable copy if any, of a file with an answer or a bare JWS."""
    text = data.strip()
    if not text.startswith(b"{"):
        return text.decode(errors="replace"), None
    answer = exact_json(text)
    if not isinstance(answer.get("jws"), str):
        raise MismatchError("The file holds no receipt: it has no jws.")
    shown = answer.get("receipt")
    return answer["jws"], shown if isinstance(shown, dict) else None


def keys_in(data: bytes) -> dict[str, str]:
    """Return the Ed25519 keys, by id, of a saved /.well-known/satmeter.json, a JSON Web Key Set, or a single key."""
    document = exact_json(data)
    listed = document.get("keys", [document]) if isinstance(document, dict) else []
    if not isinstance(listed, list):
        listed = []
    found = [key["x"] for key in listed if isinstance(key, dict) and _is_ed25519(key)]
    if not found:
        raise MismatchError("The key file holds no Ed25519 key: save /.well-known/satmeter.json of the server.")
    return {thumbprint(public): public for public in found}


def verified(jws: str, keys: Mapping[str, str], key_id: str | None) -> Json:
    """Return the receipt if it was signed by one of these keys or, without keys, by the key with this id.

    Raises `MismatchError`.
    """
    parts = jws.split(".")
    if len(parts) != _PARTS:
        raise MismatchError("The receipt is not a compact JWS.")
    header = exact_json(_decoded(parts[0]))
    if not isinstance(header, dict) or header.get("alg") != ALGORITHM or header.get("typ") != TYPE or "crit" in header:
        raise MismatchError("The receipt is not signed as receipts are.")
    signer = header.get("kid")
    if key_id is not None and signer != key_id:
        raise MismatchError(f"The receipt was signed by the key {signer}, not by {key_id}.")
    public = _public(header, keys) if keys or key_id is not None else None
    if public is None:
        raise MismatchError(f"The receipt was signed by the key {signer}, which is not the server's.")
    try:
        Ed25519PublicKey.from_public_bytes(_decoded(public)).verify(_decoded(parts[2]), jws[: jws.rindex(".")].encode())
    except (InvalidSignature, ValueError):
        raise MismatchError("The signature is wrong: the receipt is not as the server signed it.") from None
    receipt = exact_json(_decoded(parts[1]))
    if not isinstance(receipt, dict) or receipt.get("version") != 1 or receipt.get("keyId") != signer:
        raise MismatchError("The receipt is of a kind that this version can't check.")
    return receipt


def _public(header: Json, keys: Mapping[str, str]) -> str | None:
    """Return the signer's key: a trusted one or, if only an id is trusted, the receipt's own with that id."""
    signer = str(header.get("kid"))
    if keys:
        return keys.get(signer)
    own = header.get("jwk")
    return own["x"] if isinstance(own, dict) and _is_ed25519(own) and thumbprint(own["x"]) == signer else None


def _is_ed25519(key: Json) -> bool:
    return key.get("kty") == "OKP" and key.get("crv") == "Ed25519" and isinstance(key.get("x"), str)


def _decoded(text: str) -> bytes:
    """Decode base64url without padding, in its canonical form only. Raises `MismatchError`."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise MismatchError("The receipt is not a compact JWS.") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise MismatchError("The receipt is not a compact JWS.")
    return data


def check_digest(receipt: Json, field: str, data: bytes, what: str) -> bytes:
    """Check a file's digest, with or without the server's additions to an answer, and return the digested bytes.

    Raises `MismatchError`.
    """
    if receipt.get(field) is None:
        raise MismatchError(f"The receipt is of no {what}.")
    for text in (data, *_without_additions(data)):
        if hashlib.sha256(text).hexdigest() == receipt[field]:
            return text
    raise MismatchError(f"The receipt is of another {what}.")


def _without_additions(data: bytes) -> Iterator[bytes]:
    """Yield the possible originals of a relayed answer, without what the server added to it."""
    stream = _COMMENTS.sub(b"", data)
    yield stream
    failed = _FIELDS_OF_ERROR.sub(b"", stream)
    yield failed
    for begun in (data.lstrip(), stream, failed):
        for cost in _COST_IN_USAGE.finditer(begun):
            yield begun[: cost.start()] + begun[cost.end() :]


def check_price(receipt: Json) -> None:
    """Check the charge by the receipt's own figures. Raises `MismatchError`."""
    try:
        cost_usd = EXACT.add(Decimal(receipt["infraCostUsd"]), sum(_costs(receipt), Decimal(0)))
        if cost_usd != Decimal(receipt["costUsd"]):
            raise MismatchError(f"The cost is {usd_text(cost_usd)} USD by its figures, not {receipt['costUsd']}.")
        charged = _charged_msat(receipt, cost_usd)
    except (KeyError, TypeError, InvalidOperation, MoneyError, AttributeError):
        raise MismatchError("The receipt lacks figures of its price.") from None
    if charged != receipt["chargedMsat"]:
        raise MismatchError(f"The price is {charged} msat by its figures, not {receipt['chargedMsat']}.")


def _costs(receipt: Json) -> Iterator[Decimal]:
    for charge in receipt["charges"]:
        cost = sum((Decimal(charge["rates"][rate]) * charge[tokens] for tokens, rate in _RATES.items()), Decimal(0))
        fees = EXACT.add(Decimal(charge.get("perRequestUsd", 0)), _searches_usd(charge))
        cost_usd = EXACT.add(EXACT.divide(cost, _MTOK), fees)
        if cost_usd != Decimal(charge["costUsd"]):
            raise MismatchError(f"The {charge['step']} costs {usd_text(cost_usd)} USD, not {charge['costUsd']}.")
        yield cost_usd


def _searches_usd(charge: Json) -> Decimal:
    fee = Decimal(charge.get("webSearchPer1000Usd", 0))
    return EXACT.divide(EXACT.multiply(fee, charge.get("webSearches", 0)), Decimal(1_000))


def _charged_msat(receipt: Json, cost_usd: Decimal) -> int:
    if not cost_usd:
        return 0
    price_usd = EXACT.multiply(cost_usd, EXACT.add(1, EXACT.divide(Decimal(receipt["marginPct"]), 100)))
    return min(usd_to_msat(price_usd, Decimal(receipt["btcPriceUsd"])).value, int(receipt["limitMsat"]))
