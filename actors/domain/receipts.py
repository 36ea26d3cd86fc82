"""Receipts: the charge for a request and its answer, with the prices, so that anybody can compute it again.

A journal holds only digests of a request and its answer. Receipts are made from the journal when a client asks for
them, and signed by the front; a receipt has the same bytes each time.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NamedTuple, Never

import msgspec

from .behaviour import Command, Reply
from .credentials.caveats import Grant
from .llm.reported_usage import ReportedUsage
from .money import Msat
from .pricing import BtcPrice, Tariff, Usage

_SHA256_BYTES = 32


class ReceiptNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """A journal's record of a charge for its receipt, beside the charge itself, in few bytes.

    digests: SHA-256 of the request and of the answer, one behind the other, in base64url. tariff: the index of the
    tariff among those that the session was charged by; `new_tariff`: that tariff, at its first use. The reports are the
    provider's, of the evaluation and the work; None in journals of formats before 4, and for a call without a bill.
    """

    digests: str
    tariff: int
    new_tariff: Tariff | None = None
    evaluation_reported: ReportedUsage | None = None
    work_reported: ReportedUsage | None = None


class Reports(NamedTuple):
    """The provider's reports of the calls that a charge is for."""

    evaluation: ReportedUsage | None = None
    work: ReportedUsage | None = None


NO_REPORTS: Final = Reports()


def note(
    tariffs: Sequence[Tariff], tariff: Tariff, request_sha256: bytes, answer: bytes, reports: Reports = NO_REPORTS
) -> ReceiptNote:
    """Return the note of a charge by this tariff, in a session that was charged by `tariffs` before."""
    both = request_sha256 + hashlib.sha256(answer).digest()
    digests = base64.urlsafe_b64encode(both).rstrip(b"=").decode()
    if tariff in tariffs:
        return ReceiptNote(digests, tariffs.index(tariff), None, *reports)
    return ReceiptNote(digests, len(tariffs), tariff, *reports)


def digests_of(kept: ReceiptNote) -> tuple[str, str]:
    """Return the digests of request and answer, in hex."""
    both = base64.urlsafe_b64decode(kept.digests + "==")
    return both[:_SHA256_BYTES].hex(), both[_SHA256_BYTES:].hex()


def text_digest(text: str) -> str:
    """Return the digest, in hex, of a text's UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def needle(request_id: str) -> str:
    """Return the text that finds a request's events in the journal.

    No client's or provider's text has it, because quotes are escaped.
    """
    return f'"request_id":"{request_id}"'


class Receipt(Reply, frozen=True, kw_only=True, tag="receipt"):
    """A receipt of a job or of a session's request.

    `limit_msat` is what was on hold or paid; the charge is never higher. Without a tariff no model's work was charged.
    A job has `job_id` and `evaluation_fee_msat`; a session's request has the other ids and `ledger_seq`.
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
    evaluation_reported: ReportedUsage | None = None
    work_reported: ReportedUsage | None = None


class GetJobReceipt(Command[Receipt, Never], frozen=True, tag="get_job_receipt"):
    """Get the receipt of a job that has ended."""


class GetRequestReceipt(Command[Receipt, Never], frozen=True, tag="get_request_receipt"):
    """Get the receipt of a request that was charged to the session."""

    request_id: str
    grant: Grant
