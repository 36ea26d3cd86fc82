"""What a session's request may cost at most, and what it has cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from .answers import RequestOutcome
from .money import EXACT, MSAT_PER_BTC, Msat, usd_to_msat
from .pricing import BtcPrice, Terms, Usage
from .session import Hold
from .session_api import RequestCost

_NOTHING: Final = Usage(0, 0)
# A verdict has about 100 tokens.
_VERDICT_TOKENS: Final = 150
_BYTES_PER_TOKEN: Final = 2


class SessionTerms(msgspec.Struct, frozen=True):
    """The operator's side of a session.

    The overheads are upper bounds, in tokens, of what stands around a request in each prompt. `least_tokens` is the
    smallest answer that is of use, `default_tokens` the longest if the client names none, `most_tokens` the longest.
    """

    terms: Terms
    eval_model: str
    eval_overhead_tokens: int
    eval_max_tokens: int
    work_overhead_tokens: int
    least_tokens: int
    default_tokens: int
    most_tokens: int
    life_ms: int
    invoice_expiry_s: int
    pending_max: int


class Worst:
    """The worst case of one request, by the length of its answer. It is an upper bound because bytes bound tokens."""

    def __init__(self, terms: SessionTerms, request: str, model: str, btc_price: BtcPrice) -> None:
        self._terms = terms.terms
        self._model = model
        self._btc_price = btc_price
        # The judge gets it as a JSON string, in which line breaks and quotes take more bytes than they have.
        judged_bytes = len(msgspec.json.encode(request))
        evaluation = Usage(judged_bytes + terms.eval_overhead_tokens, terms.eval_max_tokens)
        self._evaluation_usd = terms.terms.models[terms.eval_model].cost_usd(evaluation)
        self._prompt_tokens = len(request.encode()) + terms.work_overhead_tokens

    def msat(self, max_tokens: int) -> Msat:
        """Evaluation, infrastructure and an answer of so many tokens, with the margin."""
        usage = Usage(self._prompt_tokens, max_tokens)
        cost_usd = EXACT.add(self._evaluation_usd, self._terms.price_usd(self._model, usage))
        return usd_to_msat(self._terms.with_margin(cost_usd), self._btc_price.usd)

    def longest(self, allowed: Msat, least: int, most: int) -> int:
        """The longest answer between `least` and `most` tokens that `allowed` covers; `least` must be covered."""
        if self.msat(most) <= allowed:
            return most
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (middle, most) if self.msat(middle) <= allowed else (least, middle)
        return least


def estimate(request: str) -> Usage:
    """What stands for a usage of the work that can't be read, but for the answer's length, which is known."""
    return Usage(-(-len(request.encode()) // _BYTES_PER_TOKEN), _VERDICT_TOKENS)


def actual_cost(terms: SessionTerms, hold: Hold, outcome: RequestOutcome) -> RequestCost:
    """What the request cost, never more than its hold: a bound that was too low is our loss."""
    evaluation, work = evaluation_usage(terms, hold, outcome), work_usage(terms, hold, outcome)
    evaluation_usd = terms.terms.models[terms.eval_model].cost_usd(evaluation) if evaluation else Decimal(0)
    work_usd = terms.terms.price_usd(hold.model, work) if work else Decimal(0)
    cost_usd = EXACT.add(evaluation_usd, work_usd)
    price_usd = terms.terms.with_margin(cost_usd)
    # In dollars: an absurd usage may be worth more than any amount in msat can be.
    held_usd_units = EXACT.multiply(hold.btc_price.usd, hold.amount_msat.value)
    covered = EXACT.multiply(price_usd, MSAT_PER_BTC) <= held_usd_units
    return RequestCost(
        model=hold.model if work else terms.eval_model,
        usage=work or evaluation or _NOTHING,
        cost_usd=cost_usd,
        evaluation_cost_usd=evaluation_usd,
        held_msat=hold.amount_msat,
        debit_msat=usd_to_msat(price_usd, hold.btc_price.usd) if covered else hold.amount_msat,
    )


def evaluation_usage(terms: SessionTerms, hold: Hold, outcome: RequestOutcome) -> Usage | None:
    """What the evaluation used; an estimate where the provider's figures were unreadable, None where there was none."""
    if outcome.evaluation is None:
        return None
    estimated = Usage(hold.estimate.input_tokens + terms.eval_overhead_tokens // _BYTES_PER_TOKEN, _VERDICT_TOKENS)
    return outcome.evaluation.usage or estimated


def work_usage(terms: SessionTerms, hold: Hold, outcome: RequestOutcome) -> Usage | None:
    """What the work used; an estimate where the provider's figures were unreadable, None where there was none."""
    if outcome.completion is None:
        return None
    input_tokens = hold.estimate.input_tokens + terms.work_overhead_tokens // _BYTES_PER_TOKEN
    output_tokens = -(-len(outcome.completion.text.encode()) // _BYTES_PER_TOKEN)
    return outcome.completion.usage or Usage(input_tokens, output_tokens)
