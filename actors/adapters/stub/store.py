"""Store keys and answer forms that the parts of the stub node share.

All processes see one node. Its keys share a hash tag, so that its scripts work on a cluster too:

    satmeter:{stub}:key              the node's private key, made once
    satmeter:{stub}:payment:<hash>   an incoming payment as LNbits shows it, as JSON; unpaid ones expire by themselves
    satmeter:{stub}:paid             sorted set of the hashes of those that were paid, by the time of it in microseconds
    satmeter:{stub}:outgoing:<hash>  a payment that the wallet made, as LNbits shows it, as JSON
    satmeter:{stub}:sent             sorted set of the hashes of those, by the time of it in microseconds
    satmeter:{stub}:balance_msat     all incoming payments, less the outgoing ones
    satmeter:{stub}:hints            channel for payment hashes as they are paid
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import httpx
import msgspec

NODE_KEY: Final = "satmeter:{stub}:key"
PAYMENT: Final = "satmeter:{stub}:payment:"
PAID: Final = "satmeter:{stub}:paid"
OUTGOING: Final = "satmeter:{stub}:outgoing:"
SENT: Final = "satmeter:{stub}:sent"
BALANCE: Final = "satmeter:{stub}:balance_msat"
CHANNEL: Final = "satmeter:{stub}:hints"

EXPIRY_DEFAULT_S: Final = 3_600
_JSON: Final = httpx.Headers({"Content-Type": "application/json"})


class Order(msgspec.Struct, frozen=True):
    """Body of LNbits's `CreateInvoice`, as far as the client uses it; `out` has an invoice paid, not made."""

    amount: int = 0
    memo: str = ""
    out: bool = True
    unit: str = "sat"
    expiry: int = EXPIRY_DEFAULT_S
    bolt11: str = ""
    extra: dict[str, Any] = {}


def rfc3339(at_s: int) -> str:
    """Return a time the way LNbits writes it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def answer(status: int, body: Any) -> httpx.Response:
    """Return an answer in JSON."""
    return httpx.Response(status, content=msgspec.json.encode(body), headers=_JSON)


def refusal(status: int, detail: str) -> httpx.Response:
    """Return an error the way LNbits puts it."""
    return answer(status, {"detail": detail})


def payment_refusal(detail: str, payment_status: str = "failed") -> httpx.Response:
    """Return an error about a payment the way LNbits puts it, with the state of the payment."""
    return answer(520, {"detail": detail, "status": payment_status})


def text(data: bytes | str) -> str:
    """Return the store's answer as text, whichever way its client is set to read it."""
    return data.decode() if isinstance(data, bytes) else data
