"""Words for the operator's figures: amounts, times, reasons. All of it is text, to be escaped where it becomes HTML."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

_NANO: Final = Decimal(1_000_000_000)
_CENT: Final = Decimal("0.01")
_SMALL: Final = Decimal("0.0001")
_SHORT_ID: Final = 10
NONE: Final = "\N{EN DASH}"
"""Stands for a figure that there is not."""

STATES: Final[Mapping[tuple[str, str], str]] = {
    ("ses", "awaiting_payment"): "Sessions that wait for their deposit",
    ("ses", "active"): "Sessions in use",
    ("ses", "closed"): "Closed sessions with something left to do",
    ("ses", "expired"): "Expired sessions with something left to do",
    ("job", "awaiting_eval_payment"): "Jobs that wait for the evaluation's payment",
    ("job", "evaluating"): "Jobs being evaluated",
    ("job", "awaiting_work_payment"): "Jobs that wait for the work's payment",
    ("job", "executing"): "Jobs being worked on",
    ("job", "complete"): "Complete jobs with something left to do",
    ("job", "rejected"): "Rejected jobs with something left to do",
    ("job", "failed"): "Failed jobs with something left to do",
    ("job", "expired"): "Expired jobs with something left to do",
}
_REFUSALS: Final[Mapping[str, str]] = {
    "key": "The Lightning node did not take our key.",
    "funds": "The wallet held too little.",
    "rules": "The node would not try, by a rule of its own or for want of a channel.",
}
_ERRORS: Final[Mapping[str, str]] = {
    "unreachable": "The destination's server did not answer, or not well.",
    "not_found": "The destination's server knows no such address.",
    "used_invoice": "The destination gave an invoice that was tried before.",
    "payment_failed": "No route could be paid to the destination.",
    "server_cannot_pay": "This server's wallet or key is at fault.",
    "amount_too_small": "The amount is less than the destination takes.",
    "amount_too_large": "The amount is more than the destination takes.",
    "wrong_amount": "The destination gave an invoice over another amount.",
    "wrong_network": "The destination gave an invoice of another network.",
}
LOOKED: Final[Mapping[str, str]] = {
    "paid": "The node says that this payout was paid. Its session or job books that within a minute.",
    "failed": "The node says that this payout failed. That counts once the time named in the table is over.",
    "pending": "The node says that this payout is still on its way. It may yet be paid, so nothing is sent again.",
    "absent": "The node knows of no such payment. That counts as failed once the time named in the table is over.",
    "settled": "No payout of this session or job is under way any more.",
    "unreachable": "The node could not be asked just now. The server goes on asking by itself.",
}


def sats(msat: int) -> str:
    """Write an amount in whole sats; below one sat in msat."""
    if msat and abs(msat) < 1_000:
        return f"{msat:,} msat"
    return f"{_toward_zero(msat):,} sats"


def short_sats(msat: int) -> str:
    """Write an amount in sats for the axis of a chart."""
    if msat and abs(msat) < 1_000:
        return f"0.{abs(msat):03d}".rstrip("0") if msat > 0 else f"-0.{abs(msat):03d}".rstrip("0")
    return short(_toward_zero(msat))


def short(number: int) -> str:
    """Write a number in few characters."""
    for unit, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if abs(number) >= unit:
            of = 1_000 if letter == "k" else unit
            whole, rest = divmod(abs(number), of)
            tenth = rest * 10 // of
            return f"{'-' if number < 0 else ''}{whole:,}{f'.{tenth}' if tenth and whole < 100 else ''}{letter}"
    return f"{number:,}"


def _toward_zero(msat: int) -> int:
    return msat // 1_000 if msat >= 0 else -(-msat // 1_000)


def dollars(nanodollars: int) -> str:
    """Write an amount of dollars to the cent, or of less than a dollar to a hundredth of one."""
    amount = Decimal(nanodollars) / _NANO
    return f"${amount.quantize(_CENT if amount >= 1 else _SMALL, ROUND_HALF_UP):,f}"


def percent(part: int, whole: int) -> str:
    """Write a part of a whole; a dash where there is none."""
    if not whole:
        return NONE
    tenths = part * 1_000 // whole
    return f"{'-' if tenths < 0 else ''}{abs(tenths) // 10}.{abs(tenths) % 10} %"


def since(then_ms: int, now: datetime) -> str:
    """Write how long ago a time was."""
    seconds = max(int(now.timestamp()) - then_ms // 1_000, 0)
    for length, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def clock(when: datetime) -> str:
    """Write a time to the minute."""
    return f"{when:%Y-%m-%d %H:%M} UTC"


def at_ms(when_ms: int) -> str:
    """Write a time in ms since 1970 to the minute."""
    return clock(datetime.fromtimestamp(0, tz=UTC) + timedelta(milliseconds=when_ms))


def short_id(actor_id: str) -> str:
    """Shorten an id: a job's whole id is the right to read the job, and screens are shown around."""
    return f"{actor_id[:_SHORT_ID]}…"


def reason_of_refusal(refusal: str | None, error: str | None) -> str:
    """Return why a payout was not made."""
    if refusal is not None:
        return _REFUSALS.get(refusal, refusal)
    if error is not None:
        return _ERRORS.get(error, error)
    return "No route could be paid to the client's invoice, or the invoice had expired."
