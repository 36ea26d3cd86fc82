"""Hourly sums: what the events of an actor add to the operator's figures.

All sums only ever rise. Those of an unpaid actor are left out: its journal expires, and no audit could tell them again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, NamedTuple

from .behaviour import Event
from .money import Msat, ceil_msat
from .payments.payouts import OwingBooks, PayoutFailed, PayoutPaid
from .pricing import Usage

HOUR_MS: Final = 3_600_000
NANODOLLARS: Final = 9
"""Decimal places of a dollar that are counted: the cost of each call is rounded to them, half to even."""
COST_MAX: Final = 10**15
"""Most that one call counts with, in nanodollars or msat: sums of absurd usages must fit the store's 64 bits, too."""

RECEIVED: Final = "received_msat"
CHARGED: Final = "charged_msat"
"""Charges for requests and work, routing left out."""
RETURNED: Final = "returned_msat"
"""Charges for evaluations that were given back, because the work failed by our fault."""
REFUNDED: Final = "refunded_msat"
ROUTING: Final = "routing_msat"
"""Routing fees of payouts, as far as their reserves cover them: the clients'."""
UNCOVERED: Final = "uncovered_msat"
"""Routing fees beyond their reserves: the operator's loss."""
COST: Final = "cost_msat"
"""Cost of models and infrastructure. That in dollars is the sum over the models."""
PAYOUTS_PAID: Final = "payouts_paid"
PAYOUTS_FAILED: Final = "payouts_failed"
REQUESTS: Final = "requests"
REQUESTS_FAILED: Final = "requests_failed"
SESSIONS_PAID: Final = "sessions_paid"
SESSIONS_CLOSED: Final = "sessions_closed"
SESSIONS_EXPIRED: Final = "sessions_expired"
JOBS_PAID: Final = "jobs_paid"
JOBS_COMPLETE: Final = "jobs_complete"
JOBS_REJECTED: Final = "jobs_rejected"
JOBS_FAILED: Final = "jobs_failed"
JOBS_EXPIRED: Final = "jobs_expired"
# Of these there is one for each model: the name, a colon, and the model.
MODEL_CALLS: Final = "model_calls"
MODEL_INPUT: Final = "model_input_tokens"
MODEL_CACHED: Final = "model_cached_tokens"
MODEL_OUTPUT: Final = "model_output_tokens"
MODEL_COST_USD: Final = "model_cost_nanodollars"


class Cost(NamedTuple):
    """Cost in dollars, and the exchange rate at which it is counted in msat."""

    usd: Decimal
    btc_usd: Decimal


_CONTEXT: Final = Context(prec=100, rounding=ROUND_HALF_EVEN)
_NAME_MAX: Final = 100


class Tally(Counter[str]):
    """Sums of some events, by name; those that stay at zero are left out."""

    def count(self, name: str, amount: int = 1) -> None:
        """Add an amount to a sum."""
        if amount:
            self[name] += amount

    def cost(self, model: str, usages: Sequence[Usage | None], cost: Cost) -> None:
        """Add the cost and the tokens of an answer that a model gave."""
        model = model[:_NAME_MAX]
        nanodollars = int(cost.usd.scaleb(NANODOLLARS, _CONTEXT).to_integral_value(ROUND_HALF_EVEN))
        nanodollars = min(nanodollars, COST_MAX)
        self.count(COST, min(ceil_msat(cost.usd, cost.btc_usd), COST_MAX))
        self.count(f"{MODEL_CALLS}:{model}")
        self.count(f"{MODEL_COST_USD}:{model}", nanodollars)
        for usage in usages:
            if usage is not None:
                self.count(f"{MODEL_INPUT}:{model}", usage.prompt_tokens)
                self.count(f"{MODEL_CACHED}:{model}", usage.cache_read_tokens)
                self.count(f"{MODEL_OUTPUT}:{model}", usage.output_tokens)

    def money(self, before: OwingBooks, after: OwingBooks, events: Sequence[Event], returned: Msat) -> None:
        """Add what the events changed in the books; `returned` is what was charged before them and is given back."""
        fees = 0
        for event in events:
            if isinstance(event, PayoutPaid):
                fees += event.fee_msat.value
                self.count(PAYOUTS_PAID)
                self.count(UNCOVERED, event.uncovered_msat.value)
            elif isinstance(event, PayoutFailed):
                self.count(PAYOUTS_FAILED)
        self.count(ROUTING, fees)
        self.count(RETURNED, returned.value)
        self.count(CHARGED, after.spent.value - before.spent.value - fees + returned.value)
        self.count(REFUNDED, after.refunded.value - before.refunded.value)


def hour_of(events: Sequence[Event]) -> int:
    """Return the hour of events that were decided upon together, counted from 1970."""
    return events[-1].at_ms // HOUR_MS if events else 0
