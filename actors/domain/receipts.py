"""Receipts: what was charged for which request and answer, at which prices, for anybody to compute again.

Of a request and its answer there are only digests in a journal. Receipts are made of the journal when they are asked
for, and signed by the front; the same one has the same bytes each time.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from .behaviour import Command, Reply
from .credentials.caveats import Grant
from .money import Msat
from .pricing import BtcPrice, Tariff, Usage

_SHA256_BYTES = 32


class ReceiptNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a journal keeps of a charge for its receipt, beside the charge itself, in as few bytes as it can.

    digests: SHA-256 of the request and of the answer, one behind the other, in base64url. tariff: the number of the
    prices among those that the session was charged by; `new_tariff`: these, when it is their first use.
    """

    digests: str
    tariff: int
    new_tariff: Tariff | None = None


def note(tariffs: Sequence[Tariff], tariff: Tariff, request: bytes, answer: bytes) -> ReceiptNote:
    """What is kept of a charge by this tariff, in a session that has seen those before."""
    both = hashlib.sha256(request).digest() + hashlib.sha256(answer).digest()
    digests = base64.urlsafe_b64encode(both).rstrip(b"=").decode()
    if tariff in tariffs:
        return ReceiptNote(digests, tariffs.index(tariff))
    return ReceiptNote(digests, len(tariffs), tariff)


def digests_of(kept: ReceiptNote) -> tuple[str, str]:
    """The digests of request and answer, in hex."""
    both = base64.urlsafe_b64decode(kept.digests + "==")
    return both[:_SHA256_BYTES].hex(), both[_SHA256_BYTES:].hex()


def text_digest(text: str) -> str:
    """A text's digest, in hex: of its UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def needle(request_id: str) -> str:
    """What the journal has in the events of a request. No text of a client's contains it: quotes are escaped there."""
    return f'"request_id":"{request_id}"'


class GetJobReceipt(Command, frozen=True, tag="get_job_receipt"):
    """The receipt of a job that has ended."""


class GetRequestReceipt(Command, frozen=True, tag="get_request_receipt"):
    """The receipt of a request that was charged to the session."""

    request_id: str
    grant: Grant


class Receipt(Reply, frozen=True, kw_only=True, tag="receipt"):
    """What a receipt says.

    `limit_msat` is what was on hold or paid, than which no more is charged. Without a tariff no model's work was
    charged. Ids, ledger number and evaluation fee are those of a job or of a session's request, whichever it is.
    """

    job_id: str | None = None
    session_id: str | None = None
    request_id: str | None = None
    spender: str | None = None
    state: str
    at_ms: int
    request_digest: str
    answer_digest: str | None = None
    tariff: Tariff | None = None
    btc_price: BtcPrice | None = None
    evaluation_usage: Usage | None = None
    work_usage: Usage | None = None
    cost_usd: Decimal = Decimal(0)
    charged_msat: Msat
    limit_msat: Msat
    evaluation_fee_msat: Msat | None = None
    ledger_seq: int | None = None
