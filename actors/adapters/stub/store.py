"""What the parts of the stub node share: where its state lies in the store, and how its answers are put.

All processes see one node. Its keys share a hash tag, so that its scripts work on a cluster too:

    satmeter:{stub}:key              the node's private key, made once
    satmeter:{stub}:payment:<hash>   an incoming payment as LNbits shows it, as JSON; unpaid ones expire by themselves
    satmeter:{stub}:paid             sorted set of the hashes of those that were paid, by the time of it in microseconds
    satmeter:{stub}:outgoing:<hash>  a payment that the wallet made, as LNbits shows it, as JSON
    satmeter:{stub}:sent             sorted set of the hashes of those, by the time of it in microseconds
    satmeter:{stub}:balance_msat     what came in, less what went out
    satmeter:{stub}:hints            channel that tells hashes as they are paid
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
    """The body of LNbits's `CreateInvoice`, as far as the client uses it; `out` has an invoice paid, not made."""

    amount: int = 0
    memo: str = ""
    out: bool = True
    unit: str = "sat"
    expiry: int = EXPIRY_DEFAULT_S
    bolt11: str = ""
    extra: dict[str, Any] = {}


def rfc3339(at_s: int) -> str:
    """A time the way LNbits writes it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def answer(status: int, body: Any) -> httpx.Response:
    """An answer in JSON."""
    return httpx.Response(status, content=msgspec.json.encode(body), headers=_JSON)


def refusal(status: int, detail: str) -> httpx.Response:
    """An error the way LNbits puts it."""
    return answer(status, {"detail": detail})


def payment_refusal(detail: str, payment_status: str = "failed") -> httpx.Response:
    """An error about a payment the way LNbits puts it, with what has become of the payment."""
    return answer(520, {"detail": detail, "status": payment_status})


def text(data: bytes | str) -> str:
    """What the store answered, whichever way its client is set to read it."""
    return data.decode() if isinstance(data, bytes) else data
