"""Hourly sums that the auditor keeps itself, from the raw fields of events (see `actors/domain/sums.py` for the names).

As in `books.py`, nothing of the domain is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Any, Final

from .books import Books, Event
from .difference import Difference

_HOUR_MS: Final = 3_600_000
_NANO: Final = 9
_MSAT_PER_BTC: Final = 100_000_000_000
_COST_MAX: Final = 10**15
_NAME_MAX: Final = 100
_CONTEXT: Final = Context(prec=100)
_COUNTED: Final = {
    "hold_released": "requests_failed",
    "job_completed": "jobs_complete",
    "job_rejected": "jobs_rejected",
    "job_failed": "jobs_failed",
    "payout_paid": "payouts_paid",
    "payout_failed": "payouts_failed",
}
_COUNTED_IF_PAID: Final = {
    "session_closed": "sessions_closed",
    "session_expired": "sessions_expired",
    "job_expired": "jobs_expired",
}

Hours = Mapping[tuple[int, str], int]


class HourBook:
    """Sums of one actor by hour and name, fed with its events in order."""

    def __init__(self) -> None:
        self.sums: Counter[tuple[int, str]] = Counter()
        self._holds: dict[str, tuple[str, Decimal]] = {}
        self._quoted: tuple[str, Decimal] | None = None

    def take(self, event: Event, books: Books) -> None:
        """Feed the books with an event, and take what it changes. Raises `AuditError` and `KeyError` as they do."""
        before = books.received, books.spent, books.fees, books.refunded, books.uncovered
        books.apply(event)
        after = books.received, books.spent, books.fees, books.refunded, books.uncovered
        received, spent, fees, refunded, uncovered = (now - then for then, now in zip(before, after, strict=True))
        hour, kind = event["at_ms"] // _HOUR_MS, event["type"]
        returned = event.get("evaluation_returned_msat", 0) if kind == "job_failed" else 0
        found = {
            "received_msat": received,
            "charged_msat": spent - fees + returned,
            "returned_msat": returned,
            "refunded_msat": refunded,
            "routing_msat": fees,
            "uncovered_msat": uncovered,
        }
        if kind in _COUNTED:
            found[_COUNTED[kind]] = 1
        if kind in _COUNTED_IF_PAID and before[0]:
            found[_COUNTED_IF_PAID[kind]] = 1
        if kind == "eval_paid":
            found["jobs_paid"] = 1
        if kind == "deposited" and not before[0]:
            found["sessions_paid"] = 1
        found |= self._answered(event, kind)
        for name, amount in found.items():
            if amount:
                self.sums[hour, name] += amount

    def _answered(self, event: Event, kind: str) -> dict[str, int]:
        """Return what an answer of a model adds."""
        match kind:
            case "hold_placed":
                hold = event["hold"]
                self._holds[hold["once"]["name"]] = hold["model"], Decimal(hold["btc_price"]["usd"])
            case "hold_released":
                self._holds.pop(event["name"], None)
            case "request_finished":
                usages = event.get("evaluation_usage"), event.get("work_usage")
                cost = _cost(*self._holds.pop(event["name"]), Decimal(event["cost_usd"]), usages)
                return cost | {"requests": 1}
            case "job_accepted" | "job_rejected":
                if kind == "job_accepted":
                    quoted = event["breakdown"]
                    self._quoted = quoted["model"], Decimal(quoted["btc_price"]["usd"])
                if (judged := event.get("evaluation_cost")) is not None:
                    btc_usd = Decimal(judged["btc_price_usd"])
                    return _cost(event["model"], btc_usd, Decimal(judged["usd"]), [event.get("usage")])
            case "job_completed" if self._quoted is not None:
                return _cost(*self._quoted, Decimal(event["cost_usd"]), [event["usage"]])
        return {}


def _cost(model: str, btc_usd: Decimal, usd: Decimal, usages: Sequence[Mapping[str, Any] | None]) -> dict[str, int]:
    model = model[:_NAME_MAX]
    nano = min(int(usd.scaleb(_NANO, _CONTEXT).to_integral_value(ROUND_HALF_EVEN)), _COST_MAX)
    exact = Fraction(usd) / Fraction(btc_usd) * _MSAT_PER_BTC
    found = Counter(
        {
            "cost_msat": min(-(-exact.numerator // exact.denominator), _COST_MAX),
            f"model_calls:{model}": 1,
            f"model_cost_nanodollars:{model}": nano,
        }
    )
    for usage in usages:
        if usage is not None:
            read = usage.get("cache_read_tokens", 0)
            written = usage.get("cache_write_5m_tokens", 0) + usage.get("cache_write_1h_tokens", 0)
            found[f"model_input_tokens:{model}"] += usage["input_tokens"] + read + written
            found[f"model_cached_tokens:{model}"] += read
            found[f"model_output_tokens:{model}"] += usage["output_tokens"]
    return found


def hour_differences(
    journals: Hours, before: Hours, after: Hours, from_hour: int, until_hour: int
) -> Sequence[Difference]:
    """Return where the store's sums, read before and after the journals, leave these out.

    No sum ever falls, so that what the journals add up to lies between. Looked at are hours from one to before another.
    """
    differences = []
    for hour, name in sorted(journals.keys() | before.keys() | after.keys()):
        low, own, high = (sums.get((hour, name), 0) for sums in (before, journals, after))
        if from_hour <= hour < until_hour and not low <= own <= high:
            begin = datetime.fromtimestamp(hour * _HOUR_MS // 1_000, UTC)
            what = f"the hourly sum {name} of {begin:%Y-%m-%d %H:%M} UTC is not what the journals add up to"
            differences.append(Difference(what, None, None, str(own), str(low if own < low else high)))
    return differences
